package hook

import "testing"

// FuzzFile: whatever is in a file, it is refused or can be matched.
func FuzzFile(f *testing.F) {
	f.Add([]byte(`{"version": "1.0.0", "hook": {"path": "/a"}, "when": {"always": true, "commands": ["a"], "annotations": {"a": "b"}}, "stages": ["prestart"]}`))
	f.Add([]byte(`{"version": "1.0.0"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		parsed, err := parse(text)
		if err != nil {
			return
		}
		if check(parsed.Hook) != nil || len(parsed.Stages) == 0 {
			t.Errorf("%q is understood as %+v", text, parsed)
		}
		parsed.When.matches(container{annotations: map[string]string{"a": "b"}, command: "a"})
	})
}
