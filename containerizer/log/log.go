package log

import (
	"fmt"
	"time"

	"go.uber.org/zap/zapcore"
)

// Logger writes entries with a name and fields to a core. It is safe for concurrent
// use; nil logs nothing.
type Logger struct {
	core zapcore.Core
	name string
}

// New returns a logger over core.
func New(core zapcore.Core) *Logger { return &Logger{core: core} }

// Nop returns a logger that logs nothing.
func Nop() *Logger { return nil }

// Named returns a logger whose name is that of l, a dot, and name.
func (l *Logger) Named(name string) *Logger {
	if l == nil {
		return nil
	}
	if l.name != "" {
		name = l.name + "." + name
	}
	return &Logger{core: l.core, name: name}
}

// With returns a logger that adds fields to all its entries.
func (l *Logger) With(fields ...Field) *Logger {
	if l == nil {
		return nil
	}
	return &Logger{core: l.core.With(fields), name: l.name}
}

// Debug logs a step.
func (l *Logger) Debug(message string, fields ...Field) { l.log(zapcore.DebugLevel, message, fields) }

// Info logs a change of state.
func (l *Logger) Info(message string, fields ...Field) { l.log(zapcore.InfoLevel, message, fields) }

// Warn logs what is degraded, and went on.
func (l *Logger) Warn(message string, fields ...Field) { l.log(zapcore.WarnLevel, message, fields) }

// Error logs what someone must look at.
func (l *Logger) Error(message string, fields ...Field) { l.log(zapcore.ErrorLevel, message, fields) }

func (l *Logger) log(level zapcore.Level, message string, fields []Field) {
	if l == nil || !l.core.Enabled(level) {
		return
	}
	entry := zapcore.Entry{Level: level, Time: time.Now(), LoggerName: l.name, Message: message}
	if checked := l.core.Check(entry, nil); checked != nil {
		checked.Write(fields...)
	}
}

// Field is a key and a value.
type Field = zapcore.Field

// String is a field with text.
func String(key, value string) Field {
	return Field{Key: key, Type: zapcore.StringType, String: value}
}

// Stringer is a field with the text of value, which is made when it is written.
func Stringer(key string, value fmt.Stringer) Field {
	return Field{Key: key, Type: zapcore.StringerType, Interface: value}
}

// Strings is a field with a list of texts.
func Strings(key string, values []string) Field {
	return Field{Key: key, Type: zapcore.ArrayMarshalerType, Interface: texts(values)}
}

// Int is a field with a number.
func Int(key string, value int) Field {
	return Field{Key: key, Type: zapcore.Int64Type, Integer: int64(value)}
}

// Error is the field "error"; none if there is no error.
func Error(err error) Field {
	if err == nil {
		return Field{Type: zapcore.SkipType}
	}
	return Field{Key: "error", Type: zapcore.ErrorType, Interface: err}
}

type texts []string

// MarshalLogArray writes the texts.
func (t texts) MarshalLogArray(e zapcore.ArrayEncoder) error {
	for _, s := range t {
		e.AppendString(s)
	}
	return nil
}
