package diffusion

import "context"

// PictureSize is the size of the pictures in pixels. The first call decodes one latent of zeros to see it.
func (p *Pipeline) PictureSize(ctx context.Context) (height, width int, err error) {
	p.sizeOnce.Lock()
	defer p.sizeOnce.Unlock()
	if p.height == 0 {
		s := p.LatentShape()
		picture, err := p.vae.decode(ctx, make([]float32, p.latentSize()), []int64{1, int64(s[0]), int64(s[1]), int64(s[2])})
		if err != nil {
			return 0, 0, err
		}
		p.height, p.width = picture[0].Height, picture[0].Width
	}
	return p.height, p.width, nil
}

// SchedulerName is the scheduler that Render uses for an Options.Scheduler: that one, or the model's own.
func (p *Pipeline) SchedulerName(name string) string {
	if name == "" {
		name = p.scheduler.ownName()
	}
	return name
}

// Width is H, the length of a token embedding.
func (p *Pipeline) Width() int { return p.text.width }
