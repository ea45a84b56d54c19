package main

import "github.com/dreamood/dreamood/internal/app"

// LimitFlags cap what one request may ask the generator for, and what waits there.
type LimitFlags struct {
	MaxSteps    int     `env:"DREAMOOD_MAX_STEPS" placeholder:"N" help:"Denoising steps (default 1000)."`
	MaxGuidance float64 `env:"DREAMOOD_MAX_GUIDANCE" placeholder:"X" help:"Guidance scale (default 30)."`
	MaxPrompt   int     `env:"DREAMOOD_MAX_PROMPT" placeholder:"N" help:"Bytes of a prompt (default 1000)."`
	MaxPictures int     `env:"DREAMOOD_MAX_PICTURES" placeholder:"N" help:"Pictures of one RenderOutliers (default 1000)."`
	MaxPerClass int     `env:"DREAMOOD_MAX_PER_CLASS" placeholder:"N" help:"Pictures per class of one set (default 100000)."`
	MaxEdge     int     `env:"DREAMOOD_MAX_EDGE" placeholder:"N" help:"Pixels a side of the pictures of a model (default 2048)."`
	MaxWaiting  int     `env:"DREAMOOD_MAX_WAITING" placeholder:"N" help:"Pictures of RenderOutliers that may wait; more is RESOURCE_EXHAUSTED (default 4 times --max-pictures)."`
	MaxCalls    int     `env:"DREAMOOD_MAX_CALLS" placeholder:"N" help:"Calls of RenderOutliers at once (default 256)."`
	MaxEngine   int     `env:"DREAMOOD_MAX_ENGINE" placeholder:"N" help:"Pictures of RenderOutliers that the engine works on at once (default 64)."`
}

func (f LimitFlags) limits() app.Limits {
	return app.Limits{
		Steps: f.MaxSteps, Guidance: f.MaxGuidance, Prompt: f.MaxPrompt, Pictures: f.MaxPictures, PerClass: f.MaxPerClass, Edge: f.MaxEdge,
		Waiting: f.MaxWaiting, Calls: f.MaxCalls, Engine: f.MaxEngine,
	}
}
