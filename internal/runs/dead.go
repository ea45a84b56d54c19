package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// maxStack bounds the stack in a dead letter.
const maxStack = 8 << 10

// dead is the shard that a run failed of, in its document.
type dead struct {
	Unit  int    `json:"unit"`
	Stack string `json:"stack,omitempty"` // where it panicked
}

// DeadLetter tells of a shard that used up its attempts, whose processes died, or that no attempt can help. It is
// written exactly once: the document of the run says FAILED first, the message of the shard leaves the queue after, and
// the stream refuses a second letter of a shard.
type DeadLetter struct {
	Sequence uint64    `json:"-"` // its name
	Run      string    `json:"run"`
	Kind     string    `json:"kind"`
	Owner    string    `json:"owner,omitempty"`
	Shard    int       `json:"shard"` // -1: the finish, -2: the planning
	Attempts int       `json:"attempts"`
	Worker   string    `json:"worker"`
	Failure  Failure   `json:"failure"`
	Stack    string    `json:"stack,omitempty"`
	Time     time.Time `json:"time"`

	RedrivenBy string `json:"-"` // the run that Retry made
}

// openDead makes the stream of dead letters where it is missing. Letters go with the record of their run.
func (s *Service) openDead(ctx context.Context) (err error) {
	s.dead, err = s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: s.cfg.Name + "-dead", Description: "dreamood: shards that no attempt could help",
		Subjects: []string{s.deadSubject("*", "*", "*")}, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
		MaxMsgsPerSubject: 1, DiscardNewPerSubject: true, Replicas: s.cfg.Replicas, Duplicates: dedupWindow, AllowDirect: true,
	})
	if err != nil {
		return fmt.Errorf("open the stream of dead letters: %w", err)
	}
	return nil
}

func (s *Service) deadSubject(kind, run, unit string) string {
	return strings.Join([]string{s.cfg.Name, "dead", kind, run, unit}, ".")
}

// deadShard is the shard whose message stands for the dead unit.
func (r *Run) deadShard() int {
	if r.Dead.Unit == finishUnit {
		return r.Finisher
	}
	return r.Dead.Unit
}

// bury writes the dead letter of a run, once.
func (s *Service) bury(ctx context.Context, run Run) error {
	u := run.unit(run.Dead.Unit)
	letter := DeadLetter{
		Run: run.ID, Kind: run.Kind, Owner: run.Owner, Shard: run.Dead.Unit, Attempts: u.Attempt, Worker: u.Worker,
		Failure: *run.Failure, Stack: run.Dead.Stack, Time: run.Ended,
	}
	data, err := json.Marshal(letter)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askWait)
	defer cancel()
	_, err = s.js.Publish(ctx, s.deadSubject(run.Kind, run.ID, unitToken(run.Dead.Unit)), data, jetstream.WithMsgID("dead."+run.ID))
	var refused *jetstream.APIError
	if errors.As(err, &refused) && refused.ErrorCode == storeFailed && strings.Contains(refused.Description, "per subject") {
		return nil // it is there
	}
	if err != nil {
		return fmt.Errorf("write the dead letter of run %s: %w", run.ID, err)
	}
	s.point("dead.written")
	return nil
}

// DeadLetters returns dead letters, the newest first, at most pageSize (0 means 50, more than 1000 means 1000), and the
// token of the next page. Empty filters select all; of the filter, Kind and Owner count.
func (s *Service) DeadLetters(ctx context.Context, filter Filter, run string, pageSize int, token string) ([]DeadLetter, string, error) {
	if pageSize < 0 {
		return nil, "", fmt.Errorf("%w page size %d: want 0 or more", ErrInvalid, pageSize)
	}
	setDefault(&pageSize, defaultPage)
	pageSize = min(pageSize, maxPage)
	before := ^uint64(0)
	if token != "" {
		var err error
		if before, err = strconv.ParseUint(token, 10, 64); err != nil {
			return nil, "", fmt.Errorf("%w page token %q: use next_page_token of the page before", ErrInvalid, token)
		}
	}
	if filter.Kind != "" && !kindPattern.MatchString(filter.Kind) || run != "" && !idPattern.MatchString(run) {
		return nil, "", nil
	}
	setDefault(&filter.Kind, "*")
	setDefault(&run, "*")
	all, err := s.readDead(ctx, s.deadSubject(filter.Kind, run, "*"))
	if err != nil {
		return nil, "", err
	}
	var page []DeadLetter
	for _, letter := range slices.Backward(all) {
		if letter.Sequence >= before || filter.Owner != "" && filter.Owner != letter.Owner {
			continue
		}
		if len(page) == pageSize {
			return page, strconv.FormatUint(page[pageSize-1].Sequence, 10), nil
		}
		s.redriven(ctx, &letter)
		page = append(page, letter)
	}
	return page, "", nil
}

// readDead reads the letters of a subject, the oldest first.
func (s *Service) readDead(ctx context.Context, subject string) ([]DeadLetter, error) {
	info, err := s.dead.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return nil, fmt.Errorf("read dead letters: %w", err)
	}
	var letters []DeadLetter
	for subject := range info.State.Subjects {
		msg, err := s.dead.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) { // removed since
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read dead letters: %w", err)
		}
		letter, err := decodeDead(msg)
		if err != nil {
			return nil, err
		}
		letters = append(letters, letter)
	}
	slices.SortFunc(letters, func(a, b DeadLetter) int { return int(int64(a.Sequence - b.Sequence)) })
	return letters, nil
}

// DeadLetter reads one. ErrNotFound when there is none of that number.
func (s *Service) DeadLetter(ctx context.Context, sequence uint64) (DeadLetter, error) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	msg, err := s.dead.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return DeadLetter{}, fmt.Errorf("dead letter %d: %w", sequence, ErrNotFound)
	}
	if err != nil {
		return DeadLetter{}, fmt.Errorf("read dead letter %d: %w", sequence, err)
	}
	letter, err := decodeDead(msg)
	s.redriven(ctx, &letter)
	return letter, err
}

func decodeDead(msg *jetstream.RawStreamMsg) (DeadLetter, error) {
	var letter DeadLetter
	if err := json.Unmarshal(msg.Data, &letter); err != nil {
		return letter, fmt.Errorf("dead letter %d: %w", msg.Sequence, err)
	}
	letter.Sequence = msg.Sequence
	return letter, nil
}

// redriven looks who retried the run of a letter.
func (s *Service) redriven(ctx context.Context, letter *DeadLetter) {
	if run, err := s.load(ctx, letter.Run); err == nil {
		letter.RedrivenBy = run.RetriedBy
	}
}

// stackOf is where a worker's function panicked.
func stackOf(err error) string {
	var panicked *panicError
	if !errors.As(err, &panicked) {
		return ""
	}
	return clip(string(panicked.stack), maxStack)
}
