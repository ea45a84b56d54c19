package diffusion

import "encoding/json"

// SchedulerOptions returns what the model's scheduler is configured with, after
// defaults, under the names of scheduler_config.json. Options that are left to
// the scheduler's class are absent.
func (p *Pipeline) SchedulerOptions() (map[string]any, error) {
	data, err := json.Marshal(p.scheduler.withDefaults(p.scheduler.ownName()))
	if err != nil {
		return nil, err
	}
	var options map[string]any
	if err := json.Unmarshal(data, &options); err != nil {
		return nil, err
	}
	for name, value := range options {
		if value == nil {
			delete(options, name)
		}
	}
	return options, nil
}

// Tokens returns the ids of a prompt, with the begin and end marks and the
// padding to the text encoder's length.
func (p *Pipeline) Tokens(prompt string) ([]int64, error) { return p.text.tokenizer.Encode(prompt) }
