package executor_test

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/berth-dev/berth/containerizer/adapter/mesos/codec"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/executor"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/executortest"
	executorv1 "github.com/berth-dev/berth/proto/mesos/v1/executor"
)

// TestGolden: calls byte by byte, but for what differs each time.
func TestGolden(t *testing.T) {
	t.Parallel()
	for name, form := range forms() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, executor.Options{Form: form}, nil)
			s := f.Subscribe()
			golden(t, form, "subscribe", f.Body(executorv1.Call_SUBSCRIBE))
			f.Launch(executortest.Task("a", "true"))
			f.Update()
			golden(t, form, "running", f.untilUpdate())
			f.container("a").ends(exited(3))
			golden(t, form, "failed", f.untilUpdate())
			s.Cut()
			f.Subscribe()
			golden(t, form, "resubscribe", f.Body(executorv1.Call_SUBSCRIBE))
		})
	}
}

func (f *fixture) untilUpdate() []byte {
	f.Update()
	return f.Body(executorv1.Call_UPDATE)
}

// golden compares a call with what testdata has; UPDATE_GOLDEN writes that.
func golden(t *testing.T, form codec.Form, name string, body []byte) {
	t.Helper()
	suffix, text := ".json", ""
	if form == codec.Protobuf {
		suffix = ".hex"
		call := &executorv1.Call{}
		if err := proto.Unmarshal(body, call); err != nil {
			t.Fatal(err)
		}
		again, err := proto.MarshalOptions{Deterministic: true}.Marshal(call)
		if err != nil {
			t.Fatal(err)
		}
		text = hex.EncodeToString(again)
		text = regexp.MustCompile(`31[0-9a-f]{14}41`).ReplaceAllString(text, "31<seconds>41")
		text = regexp.MustCompile(`5a10[0-9a-f]{32}`).ReplaceAllString(text, "5a10<uuid>")
	} else {
		text = regexp.MustCompile(`"timestamp":[0-9.e+]+`).ReplaceAllString(string(body), `"timestamp":<seconds>`)
		text = regexp.MustCompile(`"uuid":"[^"]{24}"`).ReplaceAllString(text, `"uuid":"<uuid>"`)
	}
	path := filepath.Join("testdata", name+suffix)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text+"\n" != string(want) {
		t.Errorf("%s is\n%s\nwant\n%s", name+suffix, text, want)
	}
}
