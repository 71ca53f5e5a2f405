package wiring

import (
	"os"

	"go.uber.org/zap/zapcore"

	"github.com/berth-dev/berth/containerizer/log"
)

// Logger returns a logger to standard error, for people. level is "error", "warn",
// "info" or "debug".
func Logger(level string) (*log.Logger, error) {
	l, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, err
	}
	return log.New(zapcore.NewCore(zapcore.NewConsoleEncoder(EncoderConfig()), zapcore.Lock(os.Stderr), l)), nil
}

// EncoderConfig is how entries look that people read.
func EncoderConfig() zapcore.EncoderConfig {
	return zapcore.EncoderConfig{
		TimeKey: "T", LevelKey: "L", NameKey: "N", MessageKey: "M",
		EncodeTime: zapcore.ISO8601TimeEncoder, EncodeLevel: zapcore.LowercaseLevelEncoder, EncodeDuration: zapcore.StringDurationEncoder,
	}
}
