package format_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/cmd/berth/internal/format"
	"github.com/berth-dev/berth/containerizer"
)

func layout() *format.Layout {
	return &format.Layout{
		Fields: []format.Field{{Name: "ID", Header: "CONTAINER ID"}, {Name: "Names", Header: "NAMES"}, {Name: "State", Header: "STATE"}},
		Table:  []string{"ID", "Names"},
		ID:     "ID",
	}
}

func rows() []format.Row {
	a := format.Row{"ID": "abc", "Names": "naïve", "State": "running"}
	a.SetLabels(map[string]string{"team": "x"})
	b := format.Row{"ID": "d", "Names": "<b>", "State": "exited"}
	return []format.Row{a, b}
}

func TestPrint(t *testing.T) {
	for name, c := range map[string]struct {
		o    format.Options
		want string
	}{
		"table":    {format.Options{}, "CONTAINER ID   NAMES\nabc            naïve\nd              <b>\n"},
		"quiet":    {format.Options{Quiet: true}, "abc\nd\n"},
		"json":     {format.Options{Format: "json"}, `{"ID":"abc","Names":"naïve","State":"running"}` + "\n" + `{"ID":"d","Names":"<b>","State":"exited"}` + "\n"},
		"template": {format.Options{Format: `{{.ID}} {{upper .State}} {{.Label "team"}}`, Quiet: true}, "abc RUNNING x\nd EXITED \n"},
		"headed":   {format.Options{Format: `table {{.Names}}\t{{.State}}`}, "NAMES   STATE\nnaïve   running\n<b>     exited\n"},
		"one json": {format.Options{Format: `{{json .State}}`}, "\"running\"\n\"exited\"\n"},
		"funcs":    {format.Options{Format: `{{truncate .ID 2}}{{pad .ID 1 1}}|{{join (split .State "u") "-"}}{{title .State}}`}, "ab abc |r-nningRunning\nd d |exitedExited\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			if err := layout().Print(&b, rows(), c.o); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, b.String()); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPrintRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"{{.Foo}}":       `no field "Foo" (there are ID, Names, State)`,
		"table {{.Foo}}": `no field "Foo"`,
		"{{.ID":          "--format:",
		"{{nosuch}}":     "nosuch",
	} {
		err := layout().Print(&strings.Builder{}, rows(), format.Options{Format: text})
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, containerizer.ErrInvalid) {
			t.Errorf("%q: error %v, want ErrInvalid with %q", text, err, want)
		}
	}
}

func TestObjects(t *testing.T) {
	type state struct{ Running bool }
	type object struct {
		ID    string
		State state
	}
	values := []object{{"a", state{true}}, {"b", state{}}}
	for text, want := range map[string]string{
		"":                   "[\n    {\n        \"ID\": \"a\",\n        \"State\": {\n            \"Running\": true\n        }\n    },\n    {\n        \"ID\": \"b\",\n        \"State\": {\n            \"Running\": false\n        }\n    }\n]\n",
		"json":               `[{"ID":"a","State":{"Running":true}},{"ID":"b","State":{"Running":false}}]` + "\n",
		"{{.State.Running}}": "true\nfalse\n",
		"{{json .State}}":    `{"Running":true}` + "\n" + `{"Running":false}` + "\n",
	} {
		var b strings.Builder
		if err := format.Objects(&b, values, text); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, b.String()); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
	err := format.Objects(&strings.Builder{}, values, "{{.State.Nope}}")
	if err == nil || !strings.Contains(err.Error(), `no field "Nope"`) {
		t.Errorf("error %v does not name the field", err)
	}
}
