package codec_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/codec"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
	agentv1 "github.com/berth-dev/berth/proto/mesos/v1/agent"
)

func TestJSONIn(t *testing.T) {
	t.Parallel()
	id := func(v string) *mesosv1.ContainerID { return &mesosv1.ContainerID{Value: &v} }
	call := func(typ agentv1.Call_Type) *agentv1.Call { return &agentv1.Call{Type: &typ} }
	kill := call(agentv1.Call_KILL_CONTAINER)
	kill.KillContainer = &agentv1.Call_KillContainer{ContainerId: id("a"), Signal: new(int32(15))}
	read := call(agentv1.Call_READ_FILE)
	read.ReadFile = &agentv1.Call_ReadFile{Path: new("/x"), Offset: new(uint64(math.MaxUint64))}
	launch := call(agentv1.Call_LAUNCH_CONTAINER)
	launch.LaunchContainer = &agentv1.Call_LaunchContainer{
		ContainerId: id("a"),
		Command:     &mesosv1.CommandInfo{Shell: new(false), Arguments: []string{"x"}},
		Limits:      map[string]*mesosv1.Value_Scalar{"mem": {Value: new(math.Inf(1))}, "cpus": {Value: new(1.5)}},
	}
	input := call(agentv1.Call_ATTACH_CONTAINER_INPUT)
	input.AttachContainerInput = &agentv1.Call_AttachContainerInput{
		Type:      agentv1.Call_AttachContainerInput_PROCESS_IO.Enum(),
		ProcessIo: &agentv1.ProcessIO{Data: &agentv1.ProcessIO_Data{Data: []byte("ls\n")}},
	}
	for name, c := range map[string]struct {
		in   string
		want *agentv1.Call // nil is invalid
	}{
		"type only":                 {`{"type":"GET_HEALTH"}`, call(agentv1.Call_GET_HEALTH)},
		"unknown fields":            {`{"type":"GET_HEALTH","x":{"y":[1]},"Type":3}`, call(agentv1.Call_GET_HEALTH)},
		"null is unset":             {`{"type":"GET_HEALTH","kill_container":null}`, call(agentv1.Call_GET_HEALTH)},
		"unknown optional enum":     {`{"type":"GET_WEALTH"}`, &agentv1.Call{}},
		"enum in other case":        {`{"type":"get_health"}`, &agentv1.Call{}},
		"empty":                     {`{}`, &agentv1.Call{}},
		"numbers":                   {`{"type":"KILL_CONTAINER","kill_container":{"container_id":{"value":"a"},"signal":15}}`, kill},
		"numbers in strings":        {`{"type":"KILL_CONTAINER","kill_container":{"container_id":{"value":"a"},"signal":"15"}}`, kill},
		"integral double":           {`{"type":"KILL_CONTAINER","kill_container":{"container_id":{"value":"a"},"signal":15.0}}`, kill},
		"uint64":                    {`{"type":"READ_FILE","read_file":{"path":"/x","offset":18446744073709551615}}`, read},
		"one for a list, maps":      {`{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"a"},"command":{"shell":"false","arguments":"x"},"limits":{"cpus":{"value":1.5},"mem":{"value":"Infinity"}}}}`, launch},
		"base64":                    {`{"type":"ATTACH_CONTAINER_INPUT","attach_container_input":{"type":"PROCESS_IO","process_io":{"data":{"data":"bHMK"}}}}`, input},
		"enum as number":            {`{"type":1}`, nil},
		"no object":                 {`[]`, nil},
		"a string":                  {`"x"`, nil},
		"null":                      {`null`, nil},
		"nothing":                   {``, nil},
		"cut off":                   {`{"type":`, nil},
		"two":                       {`{}{}`, nil},
		"protobuf":                  {"\x08\x01", nil},
		"string for a message":      {`{"kill_container":"a"}`, nil},
		"list for a message":        {`{"kill_container":[]}`, nil},
		"message for a string":      {`{"list_files":{"path":{}}}`, nil},
		"number for a string":       {`{"list_files":{"path":1}}`, nil},
		"missing required":          {`{"kill_container":{}}`, nil},
		"missing required, nested":  {`{"kill_container":{"container_id":{"value":"a","parent":{}}}}`, nil},
		"fraction for an int":       {`{"kill_container":{"container_id":{"value":"a"},"signal":1.5}}`, nil},
		"int out of range":          {`{"kill_container":{"container_id":{"value":"a"},"signal":2147483648}}`, nil},
		"negative for unsigned":     {`{"read_file":{"path":"/","offset":-1}}`, nil},
		"bool as number":            {`{"get_containers":{"show_nested":1}}`, nil},
		"bad base64":                {`{"attach_container_input":{"process_io":{"data":{"data":"*"}}}}`, nil},
		"limit as a bare string":    {`{"launch_container":{"container_id":{"value":"a"},"limits":{"mem":"Infinity"}}}`, nil},
		"list of a map":             {`{"launch_container":{"container_id":{"value":"a"},"limits":[]}}`, nil},
		"unknown required enum":     {`{"launch_container":{"container_id":{"value":"a"},"container":{"type":"PODMAN"}}}`, nil},
		"nested without end":        {`{"kill_container":{"container_id":` + strings.Repeat(`{"value":"a","parent":`, 5000) + `{"value":"a"}` + strings.Repeat("}", 5000) + `}}`, nil},
		"null for one of a list":    {`{"launch_container":{"container_id":{"value":"a"},"command":{"arguments":[null]}}}`, nil},
		"list in a list":            {`{"launch_container":{"container_id":{"value":"a"},"command":{"arguments":[["x"]]}}}`, nil},
		"double in hexadecimal":     {`{"launch_container":{"container_id":{"value":"a"},"limits":{"mem":{"value":"0x10"}}}}`, nil},
		"number that overflows":     {`{"launch_container":{"container_id":{"value":"a"},"limits":{"mem":{"value":1e999}}}}`, nil},
		"bytes in the URL alphabet": {`{"attach_container_input":{"process_io":{"data":{"data":"_-8="}}}}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := &agentv1.Call{}
			err := codec.JSON.Unmarshal([]byte(c.in), got)
			if c.want == nil {
				if !errors.Is(err, containerizer.ErrInvalid) {
					t.Errorf("got %v, %v; want %v", got, err, containerizer.ErrInvalid)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestJSONOut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in   proto.Message
		want string
	}{
		"unset and enums":      {&agentv1.Response{Type: agentv1.Response_GET_HEALTH.Enum(), GetHealth: &agentv1.Response_GetHealth{Healthy: new(true)}}, `{"type":"GET_HEALTH","get_health":{"healthy":true}}`},
		"defaults are written": {&mesosv1.CommandInfo{Value: new("a<b\"\n")}, `{"value":"a<b\"\n","shell":true}`},
		"but not deprecated": {
			&mesosv1.Resource{Name: new("cpus"), Type: mesosv1.Value_SCALAR.Enum(), Scalar: &mesosv1.Value_Scalar{Value: new(2.0)}},
			`{"name":"cpus","type":"SCALAR","scalar":{"value":2.0}}`,
		},
		"default enums":     {&mesosv1.Environment_Variable{Name: new("A"), Value: new("b")}, `{"name":"A","value":"b","type":"VALUE"}`},
		"bytes and numbers": {&agentv1.Response_ReadFile{Size: new(uint64(math.MaxUint64)), Data: []byte{0, 255}}, `{"size":18446744073709551615,"data":"AP8="}`},
		"infinity":          {&mesosv1.Value_Scalar{Value: new(math.Inf(-1))}, `{"value":"-Infinity"}`},
		"maps in order": {
			&agentv1.Call_LaunchContainer{ContainerId: &mesosv1.ContainerID{Value: new("a")}, Limits: map[string]*mesosv1.Value_Scalar{"mem": {Value: new(0.25)}, "cpus": {Value: new(1e30)}}},
			`{"container_id":{"value":"a"},"limits":{"cpus":{"value":1e+30},"mem":{"value":0.25}}}`,
		},
		"lists": {&mesosv1.Labels{Labels: []*mesosv1.Label{{Key: new("a")}, {Key: new("b"), Value: new("c")}}}, `{"labels":[{"key":"a"},{"key":"b","value":"c"}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := codec.JSON.Marshal(c.in)
			if err != nil || string(got) != c.want {
				t.Errorf("got  %s, %v\nwant %s", got, err, c.want)
			}
		})
	}
	if got, err := codec.JSON.Marshal(&agentv1.Response_GetHealth{}); err == nil {
		t.Errorf("without what is required: %s", got)
	}
}

// FuzzJSON: whatever is read is written, and reads the same then; in both forms.
func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"type":"KILL_CONTAINER","kill_container":{"container_id":{"value":"a","parent":{"value":"b"}},"signal":"15"}}`))
	f.Add([]byte(`{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"a"},"limits":{"mem":{"value":"Infinity"}},"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.1}}]}}`))
	f.Add([]byte(`{"attach_container_input":{"process_io":{"data":{"data":"AP8="}}}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		call := &agentv1.Call{}
		if err := codec.JSON.Unmarshal(in, call); err != nil {
			return
		}
		out, err := codec.JSON.Marshal(call)
		if err != nil {
			t.Fatal(err)
		}
		again := &agentv1.Call{}
		if err := codec.JSON.Unmarshal(out, again); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		second, err := codec.JSON.Marshal(again)
		if err != nil || string(second) != string(out) {
			t.Errorf("%s became %s (%v)", out, second, err)
		}
		binary, err := codec.Protobuf.Marshal(call)
		if err != nil {
			t.Fatal(err)
		}
		if err := codec.Protobuf.Unmarshal(binary, &agentv1.Call{}); err != nil {
			t.Errorf("%x: %v", binary, err)
		}
	})
}

// TestStrangers: values of enumerations that nobody knows are none.
func TestStrangers(t *testing.T) {
	t.Parallel()
	call := &agentv1.Call{}
	if err := codec.Protobuf.Unmarshal([]byte("\x08\x7f"), call); err != nil || call.Type != nil {
		t.Errorf("optional: %v, %v", call, err)
	}
	if err := codec.Protobuf.Unmarshal([]byte("\x08\x7f"), &mesosv1.ContainerInfo{}); !errors.Is(err, containerizer.ErrInvalid) {
		t.Errorf("required: %v", err)
	}
	caps := &mesosv1.CapabilityInfo{}
	if err := codec.Protobuf.Unmarshal([]byte("\x08\x7f\x08\xe8\x07"), caps); err != nil || len(caps.GetCapabilities()) != 1 {
		t.Errorf("list: %v, %v", caps, err)
	}
}
