package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/cmd/internal/daemon"
	"github.com/berth-dev/berth/cmd/internal/wiring"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/client"
	"github.com/berth-dev/berth/containerizer/log"
)

// live is a daemon in this process, over real sockets.
type live struct {
	*testing.T

	dir    string
	client *client.Client // over its socket
	log    *syncBuffer
	hangup chan os.Signal
	stop   func() // ends the daemon, before the test does

	mu   sync.Mutex
	next config.Config // what a reload reads
}

// syncBuffer is a buffer that is written and read at once.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// setup changes what a daemon is made of.
type setup struct {
	config  func(*config.Config)
	parts   func(*wiring.Parts)
	options func(*daemon.Options)
}

// serveLive starts a daemon, which is ready when this returns, and ends it with the
// test. dir is its node's; "" is one of its own, in which nothing can be launched.
func serveLive(t *testing.T, dir string, s setup) *live {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a daemon needs root")
	}
	if dir == "" {
		dir = filepath.Join(t.TempDir(), "n")
	}
	l := &live{T: t, dir: dir, log: &syncBuffer{}, hangup: make(chan os.Signal)}
	cfg, p := settings(dir), parts()
	if s.config != nil {
		s.config(&cfg)
	}
	metrics := daemon.NewMetrics()
	p.OnStep, p.OnOperation, p.OnRelieved = metrics.OnStep, metrics.OnOperation, metrics.OnRelieved
	if s.parts != nil {
		s.parts(&p)
	}
	level := zap.NewAtomicLevelAt(zapcore.InfoLevel)
	logger := log.New(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "message", LevelKey: "level", EncodeLevel: zapcore.LowercaseLevelEncoder}), zapcore.AddSync(l.log), level))
	l.next = cfg
	o := daemon.Options{
		Config: cfg, Node: wiring.New(cfg, "/nonexistent", logger, p), Log: logger, SetLevel: level.SetLevel, Metrics: metrics, Version: "test",
		Hangups: l.hangup,
		Reread: func() (*config.Config, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			c := l.next
			return &c, nil
		},
	}
	if s.options != nil {
		s.options(&o)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- daemon.Run(ctx, o) }()
	l.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("the daemon ends with %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("the daemon does not end")
		}
	})
	t.Cleanup(l.stop)
	var err error
	if l.client, err = client.New("unix://"+cfg.Socket(cfg.State), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.client.Close() })
	ready, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	if err := l.client.WaitReady(ready); err != nil {
		select {
		case err = <-ended:
			ended <- err
		default:
		}
		t.Fatalf("the daemon is not ready: %v\n%s", err, l.log)
	}
	return l
}

// reload has the daemon read what change makes of the configuration.
func (l *live) reload(change func(*config.Config)) (applied, restart []string, err error) {
	l.Helper()
	l.mu.Lock()
	change(&l.next)
	l.mu.Unlock()
	return l.client.Reload(l.Context())
}

// eventually waits until what returns "".
func eventually(t *testing.T, what func() string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		problem := what()
		if problem == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(problem)
		}
	}
}

// TestReloadSetsTheLevel: what is logged changes at run time, by a call and by a signal.
func TestReloadSetsTheLevel(t *testing.T) {
	l := serveLive(t, "", setup{})
	const quiet = "the configuration was read again"
	applied, restart, err := l.reload(func(c *config.Config) { c.Daemon.LogLevel = "error" })
	if err != nil || strings.Join(applied, " ") != "daemon.log_level" || len(restart) > 0 {
		t.Errorf("Reload = %q, %q, %v", applied, restart, err)
	}
	if strings.Contains(l.log.String(), quiet) {
		t.Error("the daemon logs at level info still")
	}
	l.mu.Lock()
	l.next.Daemon.LogLevel = "debug"
	l.mu.Unlock()
	l.hangup <- os.Interrupt // whatever arrives there
	eventually(t, func() string {
		if !strings.Contains(l.log.String(), quiet) {
			return "the daemon does not log at level debug"
		}
		return ""
	})
	_, restart, err = l.reload(func(c *config.Config) { c.Root = "/elsewhere" })
	if err != nil || strings.Join(restart, " ") != "root" {
		t.Errorf("Reload of what needs a restart = %q, %v", restart, err)
	}
}
