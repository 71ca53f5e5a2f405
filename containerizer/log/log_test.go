package log_test

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"go.uber.org/zap/zapcore"

	"github.com/berth-dev/berth/containerizer/log"
)

// to returns a logger that writes JSON without times to the buffer.
func to(b *bytes.Buffer, level zapcore.Level) *log.Logger {
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{
		MessageKey: "msg", LevelKey: "level", NameKey: "logger", EncodeLevel: zapcore.LowercaseLevelEncoder,
	})
	return log.New(zapcore.NewCore(encoder, zapcore.AddSync(b), level))
}

func TestLogger(t *testing.T) {
	var b bytes.Buffer
	l := to(&b, zapcore.InfoLevel).Named("isolator").Named("network").With(log.String("container_id", "c1"))
	l.Debug("a step")
	l.Info("a change", log.Int("pid", 7))
	l.Warn("went on", log.Error(errors.New("no bridge")), log.Error(nil))
	l.Error("look", log.Strings("servers", []string{"a", "b"}), log.Stringer("address", netip.MustParseAddr("10.0.0.1")))
	want := `{"level":"info","logger":"isolator.network","msg":"a change","container_id":"c1","pid":7}
{"level":"warn","logger":"isolator.network","msg":"went on","container_id":"c1","error":"no bridge"}
{"level":"error","logger":"isolator.network","msg":"look","container_id":"c1","servers":["a","b"],"address":"10.0.0.1"}
`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestNop(*testing.T) {
	l := log.Nop()
	l.Named("x").With(log.Int("n", 1)).Error("nobody reads this")
}

func TestNamedKeepsTheOther(t *testing.T) {
	var b bytes.Buffer
	l := to(&b, zapcore.DebugLevel)
	l.Named("a").Debug("one")
	l.Debug("two")
	if got := strings.Count(b.String(), `"logger":"a"`); got != 1 {
		t.Errorf("%d entries have the name of the derived logger: %s", got, b.String())
	}
}
