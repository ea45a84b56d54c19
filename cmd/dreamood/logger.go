package main

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logger writes the lines of --log-level and above to standard error: for people on a terminal, as JSON elsewhere.
// --quiet leaves warnings and errors.
func (s *Session) logger() (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(s.LogLevel)
	if err != nil {
		return nil, usage("--log-level: %w", err)
	}
	if s.Quiet && level < zapcore.WarnLevel {
		level = zapcore.WarnLevel
	}
	cfg := zap.NewProductionEncoderConfig()
	cfg.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	encoder := zapcore.NewJSONEncoder(cfg)
	if columns(s.Err) > 0 {
		cfg.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		cfg.EncodeLevel = zapcore.CapitalColorLevelEncoder
		encoder = zapcore.NewConsoleEncoder(cfg)
	}
	core := zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(s.Err)), level)
	return zap.New(core, zap.ErrorOutput(zapcore.Lock(zapcore.AddSync(s.Err)))), nil
}
