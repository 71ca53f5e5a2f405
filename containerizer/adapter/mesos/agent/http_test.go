package agent_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/agent"
)

const health = `{"type":"GET_HEALTH"}`

func record(s string) string { return fmt.Sprintf("%d\n%s", len(s), s) }

// TestHeaders: the rules of the agent, in its order.
func TestHeaders(t *testing.T) {
	t.Parallel()
	const input, output = `{"type":"ATTACH_CONTAINER_INPUT","attach_container_input":{}}`, `{"type":"ATTACH_CONTAINER_OUTPUT","attach_container_output":{"container_id":{"value":"x"}}}`
	stream := []string{"Content-Type", "application/recordio", "Message-Content-Type", "application/json"}
	for name, c := range map[string]struct {
		method, path, body string
		headers            http.Header
		want               int
		content            string // of the answer
	}{
		"JSON":                       {body: health, want: 200, content: "application/json"},
		"alias":                      {path: "/slave(1)/api/v1", body: health, want: 200, content: "application/json"},
		"elsewhere":                  {path: "/api/v2", body: health, want: 404},
		"GET":                        {method: http.MethodGet, want: 405},
		"no content type":            {headers: headers("Content-Type", ""), body: health, want: 400},
		"charset":                    {headers: headers("Content-Type", "application/json; charset=utf-8"), body: health, want: 415},
		"text":                       {headers: headers("Content-Type", "text/plain"), body: health, want: 415},
		"protobuf":                   {headers: headers("Content-Type", "application/x-protobuf", "Accept", "application/x-protobuf"), body: "\x08\x01", want: 200, content: "application/x-protobuf"},
		"JSON as protobuf":           {headers: headers("Content-Type", "application/x-protobuf"), body: health, want: 400},
		"protobuf as JSON":           {body: "\x08\x01", want: 400},
		"everything is acceptable":   {headers: headers("Accept", "*/*"), body: health, want: 200, content: "application/json"},
		"JSON before protobuf":       {headers: headers("Accept", "application/x-protobuf, application/json;q=0.1"), body: health, want: 200, content: "application/json"},
		"JSON is not":                {headers: headers("Accept", "application/json;q=0, application/x-protobuf"), body: health, want: 200, content: "application/x-protobuf"},
		"nothing is acceptable":      {headers: headers("Accept", "text/html"), body: health, want: 406},
		"message content alone":      {headers: headers("Message-Content-Type", "application/json"), body: health, want: 415},
		"message accept alone":       {headers: headers("Message-Accept", "application/json"), body: health, want: 406},
		"stream of unknown":          {headers: headers("Content-Type", "application/recordio"), body: record(input), want: 400},
		"stream of text":             {headers: headers("Content-Type", "application/recordio", "Message-Content-Type", "text/plain"), body: record(input), want: 415},
		"empty stream":               {headers: headers(stream...), want: 400},
		"stream without frames":      {headers: headers(stream...), body: input, want: 400},
		"stream cut off":             {headers: headers(stream...), body: record(input)[:20], want: 400},
		"record too long":            {headers: headers(stream...), body: "9999999\n", want: 400},
		"call in a stream":           {headers: headers(stream...), body: record(health), want: 415},
		"input without stream":       {body: input, want: 415},
		"answer is no stream":        {headers: headers("Accept", "application/recordio"), body: health, want: 406},
		"unknown records acceptable": {headers: headers("Accept", "application/recordio", "Message-Accept", "text/plain"), body: output, want: 406},
		"stream of an unknown id":    {headers: headers("Accept", "application/recordio"), body: output, want: 404},
		"unknown type":               {body: `{"type":"GET_WEALTH"}`, want: 400},
		"type as a number":           {body: `{"type":1}`, want: 400},
		"no type":                    {body: `{}`, want: 400},
		"UNKNOWN":                    {body: `{"type":"UNKNOWN"}`, want: 501},
		"resource providers":         {body: `{"type":"GET_RESOURCE_PROVIDERS"}`, want: 501},
		"without what belongs to it": {body: `{"type":"KILL_CONTAINER"}`, want: 400},
		"metrics without their call": {body: `{"type":"GET_METRICS"}`, want: 400},
		"unknown enum in protobuf":   {headers: headers("Content-Type", "application/x-protobuf"), body: "\x08\x7f", want: 400},
		"no body":                    {want: 400},
		"too large":                  {body: `{"type":"GET_HEALTH","x":"` + strings.Repeat("x", 9<<20) + `"}`, want: 413},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, agent.Options{})
			if c.headers == nil {
				c.headers = headers()
			}
			if c.method == "" {
				c.method = http.MethodPost
			}
			if c.path == "" {
				c.path = "/api/v1"
			}
			r := f.request(t, c.method, c.path, c.headers, c.body)
			body := text(t, r)
			if r.StatusCode != c.want {
				t.Errorf("status %d (%s), want %d", r.StatusCode, body, c.want)
			}
			if c.content == "" {
				c.content = "text/plain; charset=utf-8"
			}
			if got := r.Header.Get("Content-Type"); got != c.content {
				t.Errorf("content type %q, want %q", got, c.content)
			}
			if r.StatusCode == http.StatusMethodNotAllowed && r.Header.Get("Allow") != "POST" {
				t.Error("405 does not say what is allowed")
			}
		})
	}
}

func TestRecovering(t *testing.T) {
	t.Parallel()
	f := newFixture(t, agent.Options{})
	f.node.recovering = true
	if r := f.do(t, headers(), health); r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d, want 503: %s", r.StatusCode, text(t, r))
	}
}

// TestGolden: answers to the byte.
func TestGolden(t *testing.T) {
	t.Parallel()
	f := newFixture(t, agent.Options{})
	f.parent("p")
	f.engine.put("p.c", &containerizer.Spec{Labels: map[string]string{"dev.berth.mesos/class": "nested"}}, containerizer.StateExited)
	f.engine.containers["p.c"].Termination = &containerizer.Termination{WaitStatus: 3 << 8, ExitCode: 3, Reason: containerizer.ReasonError}
	f.engine.put("p.o", &containerizer.Spec{Labels: map[string]string{"dev.berth.mesos/class": "nested"}}, containerizer.StateExited)
	f.engine.containers["p.o"].Termination = &containerizer.Termination{WaitStatus: 9, ExitCode: 137, Signal: 9, OOMKilled: true, Reason: containerizer.ReasonOOMKilled}
	f.engine.put("p.u", &containerizer.Spec{Labels: map[string]string{"dev.berth.mesos/class": "nested"}}, containerizer.StateExited)
	f.engine.containers["p.u"].Termination = &containerizer.Termination{ExitCode: 255, Reason: containerizer.ReasonUnknown, Message: "its monitor died"}
	f.engine.put("stranger", &containerizer.Spec{}, containerizer.StateRunning)
	for call, want := range map[string]string{
		health:                         `{"type":"GET_HEALTH","get_health":{"healthy":true}}`,
		`{"type":"GET_VERSION"}`:       `{"type":"GET_VERSION","get_version":{"version_info":{"version":"1.2.3","git_sha":"abc"}}}`,
		`{"type":"GET_FLAGS"}`:         `{"type":"GET_FLAGS","get_flags":{"flags":[{"name":"a","value":"1"},{"name":"b","value":"2"}]}}`,
		`{"type":"GET_LOGGING_LEVEL"}`: `{"type":"GET_LOGGING_LEVEL","get_logging_level":{"level":0}}`,
		`{"type":"GET_METRICS","get_metrics":{"timeout":{"nanoseconds":5000000000}}}`: `{"type":"GET_METRICS","get_metrics":{"metrics":[{"name":"m","value":1.0}]}}`,
		`{"type":"GET_FRAMEWORKS"}`: `{"type":"GET_FRAMEWORKS","get_frameworks":{}}`,
		`{"type":"GET_STATE"}`:      `{"type":"GET_STATE","get_state":{"get_tasks":{},"get_executors":{},"get_frameworks":{}}}`,
		`{"type":"GET_CONTAINERS"}`: `{"type":"GET_CONTAINERS","get_containers":{}}`,
		`{"type":"GET_CONTAINERS","get_containers":{"show_standalone":true,"show_nested":true}}`:                         `{"type":"GET_CONTAINERS","get_containers":{"containers":[{"container_id":{"value":"p"},"container_status":{"container_id":{"value":"p"}},"resource_statistics":{"timestamp":1.0}}]}}`,
		`{"type":"WAIT_NESTED_CONTAINER","wait_nested_container":{"container_id":{"value":"c","parent":{"value":"p"}}}}`: `{"type":"WAIT_NESTED_CONTAINER","wait_nested_container":{"exit_status":768}}`,
		`{"type":"WAIT_CONTAINER","wait_container":{"container_id":{"value":"c","parent":{"value":"p"}}}}`:               `{"type":"WAIT_CONTAINER","wait_container":{"exit_status":768}}`,
		`{"type":"WAIT_CONTAINER","wait_container":{"container_id":{"value":"o","parent":{"value":"p"}}}}`:               `{"type":"WAIT_CONTAINER","wait_container":{"exit_status":9,"state":"TASK_FAILED","reason":"REASON_CONTAINER_LIMITATION_MEMORY","limitation":{},"message":"Memory limit exceeded"}}`,
		`{"type":"WAIT_CONTAINER","wait_container":{"container_id":{"value":"u","parent":{"value":"p"}}}}`:               `{"type":"WAIT_CONTAINER","wait_container":{"message":"its monitor died"}}`,
	} {
		r := f.do(t, headers(), call)
		if got := text(t, r); got != want || r.StatusCode != http.StatusOK {
			t.Errorf("%s\n got %d %s\nwant     %s", call, r.StatusCode, got, want)
		}
	}
	r := f.do(t, headers("Content-Type", "application/x-protobuf", "Accept", "application/x-protobuf"), "\x08\x01")
	if got := text(t, r); got != "\x08\x01\x12\x02\x08\x01" {
		t.Errorf("protobuf: %x", got)
	}
	for call, want := range map[string]int{
		`{"type":"WAIT_CONTAINER","wait_container":{"container_id":{"value":"nobody"}}}`:                                      404,
		`{"type":"WAIT_CONTAINER","wait_container":{"container_id":{"value":"stranger"}}}`:                                    404,
		`{"type":"KILL_CONTAINER","kill_container":{"container_id":{"value":"stranger"}}}`:                                    404,
		`{"type":"KILL_CONTAINER","kill_container":{"container_id":{"value":"c","parent":{"value":"p"}}}}`:                    404,
		`{"type":"KILL_CONTAINER","kill_container":{"container_id":{"value":"p"},"signal":65}}`:                               400,
		`{"type":"KILL_CONTAINER","kill_container":{"container_id":{"value":"p"}}}`:                                           200,
		`{"type":"KILL_NESTED_CONTAINER","kill_nested_container":{"container_id":{"value":"p"}}}`:                             400,
		`{"type":"REMOVE_CONTAINER","remove_container":{"container_id":{"value":"p"}}}`:                                       500,
		`{"type":"REMOVE_CONTAINER","remove_container":{"container_id":{"value":"nobody"}}}`:                                  500,
		`{"type":"REMOVE_CONTAINER","remove_container":{"container_id":{"value":"stranger"}}}`:                                500,
		`{"type":"REMOVE_NESTED_CONTAINER","remove_nested_container":{"container_id":{"value":"u","parent":{"value":"p"}}}}`:  200,
		`{"type":"REMOVE_NESTED_CONTAINER","remove_nested_container":{"container_id":{"value":"xx","parent":{"value":"p"}}}}`: 200,
		`{"type":"SET_LOGGING_LEVEL","set_logging_level":{"level":1,"duration":{"nanoseconds":0}}}`:                           400,
		`{"type":"SET_LOGGING_LEVEL","set_logging_level":{"level":1}}`:                                                        400,
		`{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"p"}}}`:                                       202,
		`{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"stranger"},"command":{"value":"x"}}}`:        400,
		`{"type":"LAUNCH_NESTED_CONTAINER","launch_nested_container":{"container_id":{"value":"c","parent":{"value":"p"}}}}`:  202,
	} {
		if r := f.do(t, headers(), call); r.StatusCode != want {
			t.Errorf("%s\n got %d %s, want %d", call, r.StatusCode, text(t, r), want)
		}
	}
	if len(f.engine.killed) != 1 || f.engine.killed[0] != 9 {
		t.Errorf("signals %v were sent, want 9", f.engine.killed)
	}
}

// TestBadLaunches: refused with 400, and nothing is done.
func TestBadLaunches(t *testing.T) {
	t.Parallel()
	deep := `{"value":"x"}`
	for range 32 {
		deep = `{"value":"x","parent":` + deep + `}`
	}
	standalone := func(rest string) string {
		return `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"a"},"command":{"value":"true"}` + rest + `}}`
	}
	container := func(rest string) string { return standalone(`,"container":{"type":"MESOS",` + rest + `}`) }
	volume := func(rest string) string {
		return container(`"volumes":[{"mode":"RW","container_path":"v",` + rest + `}]`)
	}
	for name, call := range map[string]string{
		"no id":                     `{"type":"LAUNCH_CONTAINER","launch_container":{"command":{"value":"true"}}}`,
		"id without value":          `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{},"command":{"value":"true"}}}`,
		"empty id":                  `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":""},"command":{"value":"true"}}}`,
		"id with a slash":           `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"a/b"},"command":{"value":"true"}}}`,
		"id with a dot":             `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"a.b"},"command":{"value":"true"}}}`,
		"id of dots":                `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":".."},"command":{"value":"true"}}}`,
		"id with a blank":           `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"a b"},"command":{"value":"true"}}}`,
		"huge id":                   `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"` + strings.Repeat("a", 243) + `"},"command":{"value":"true"}}}`,
		"depth 33":                  `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":` + deep + `,"command":{"value":"true"}}}`,
		"nested without parent":     `{"type":"LAUNCH_NESTED_CONTAINER","launch_nested_container":{"container_id":{"value":"a"},"command":{"value":"true"}}}`,
		"session without parent":    `{"type":"LAUNCH_NESTED_CONTAINER_SESSION","launch_nested_container_session":{"container_id":{"value":"a"},"command":{"value":"true"}}}`,
		"unknown parent":            `{"type":"LAUNCH_NESTED_CONTAINER","launch_nested_container":{"container_id":{"value":"a","parent":{"value":"b"}},"command":{"value":"true"}}}`,
		"session in unknown parent": `{"type":"LAUNCH_NESTED_CONTAINER_SESSION","launch_nested_container_session":{"container_id":{"value":"a","parent":{"value":"b"}},"command":{"value":"true"}}}`,
		"no command":                `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"a"}}}`,
		"shell of nothing":          `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"a"},"command":{}}}`,
		"type DOCKER":               standalone(`,"container":{"type":"DOCKER"}`),
		"no type":                   standalone(`,"container":{}`),
		"unknown type":              standalone(`,"container":{"type":"PODMAN"}`),
		"variable without value":    `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"a"},"command":{"value":"true","environment":{"variables":[{"name":"A"}]}}}}`,
		"variable with NUL":         `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"a"},"command":{"value":"true","environment":{"variables":[{"name":"A","value":"\u0000"}]}}}}`,
		"secret without secret":     `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"a"},"command":{"value":"true","environment":{"variables":[{"name":"A","type":"SECRET"}]}}}}`,
		"secret variable":           `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"a"},"command":{"value":"true","environment":{"variables":[{"name":"A","type":"SECRET","secret":{"type":"VALUE","value":{"data":"eA=="}}}]}}}}`,
		"unknown user":              `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"a"},"command":{"value":"true","user":"nobody-of-this-name"}}}`,
		"output outside":            `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"a"},"command":{"value":"true","uris":[{"value":"http://x/y","output_file":"../y"}]}}}`,
		"negative cpus":             standalone(`,"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":-1}}]`),
		"NaN":                       standalone(`,"resources":[{"name":"mem","type":"SCALAR","scalar":{"value":"NaN"}}]`),
		"infinite request":          standalone(`,"resources":[{"name":"mem","type":"SCALAR","scalar":{"value":"Infinity"}}]`),
		"cpus as ranges":            standalone(`,"resources":[{"name":"cpus","type":"RANGES","ranges":{"range":[{"begin":1,"end":2}]}}]`),
		"more than there can be":    standalone(`,"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1e300}}]`),
		"revocable":                 standalone(`,"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1},"revocable":{}}]`),
		"reserved":                  standalone(`,"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1},"reservations":[{"role":"x"}]}]`),
		"gpus":                      standalone(`,"resources":[{"name":"gpus","type":"SCALAR","scalar":{"value":1}}]`),
		"limit of disk":             standalone(`,"limits":{"disk":{"value":1}}`),
		"limit below request":       standalone(`,"resources":[{"name":"mem","type":"SCALAR","scalar":{"value":64}}],"limits":{"mem":{"value":32}}`),
		"share_cgroups of a root":   container(`"linux_info":{"share_cgroups":true}`),
		"unknown capability":        container(`"linux_info":{"effective_capabilities":{"capabilities":["UNKNOWN"]}}`),
		"capability out of bounds":  container(`"linux_info":{"effective_capabilities":{"capabilities":["SYS_ADMIN"]},"bounding_capabilities":{"capabilities":["CHOWN"]}}`),
		"both kinds of effective":   container(`"linux_info":{"effective_capabilities":{},"capability_info":{}}`),
		"profile and unconfined":    container(`"linux_info":{"seccomp":{"profile_name":"x","unconfined":true}}`),
		"profile without folder":    container(`"linux_info":{"seccomp":{"profile_name":"x"}}`),
		"size of a shared /dev/shm": container(`"linux_info":{"shm_size":1}`),
		"soft limit alone":          container(`"rlimit_info":{"rlimits":[{"type":"RLMT_CORE","soft":1}]}`),
		"limit of unknown type":     container(`"rlimit_info":{"rlimits":[{"type":"UNKNOWN","soft":1,"hard":1}]}`),
		"appc":                      container(`"mesos":{"image":{"type":"APPC","appc":{"name":"x"}}}`),
		"image without name":        container(`"mesos":{"image":{"type":"DOCKER"}}`),
		"image with credentials":    container(`"mesos":{"image":{"type":"DOCKER","docker":{"name":"x","config":{"type":"VALUE","value":{"data":"eA=="}}}}}`),
		"host name of the host":     container(`"hostname":"x"`),
		"volume of nothing":         container(`"volumes":[{"mode":"RW","container_path":"v"}]`),
		"volume of two":             volume(`"host_path":"/x","source":{"type":"HOST_PATH","host_path":{"path":"/x"}}`),
		"volume out of sandbox":     volume(`"source":{"type":"SANDBOX_PATH","sandbox_path":{"type":"SELF","path":"../x"}}`),
		"relative SELF":             volume(`"source":{"type":"SANDBOX_PATH","sandbox_path":{"type":"SELF","path":"x"}}`),
		"PARENT of a root":          volume(`"source":{"type":"SANDBOX_PATH","sandbox_path":{"type":"PARENT","path":"x"}}`),
		"sandbox path of nothing":   volume(`"source":{"type":"SANDBOX_PATH"}`),
		"relative host path":        volume(`"source":{"type":"HOST_PATH","host_path":{"path":"x"}}`),
		"docker volume":             volume(`"source":{"type":"DOCKER_VOLUME","docker_volume":{"driver":"d","name":"x"}}`),
		"secret volume":             volume(`"source":{"type":"SECRET","secret":{"type":"VALUE","value":{"data":"eA=="}}}`),
		"volume of unknown type":    volume(`"source":{"type":"UNKNOWN"}`),
		"writable image":            volume(`"image":{"type":"DOCKER","docker":{"name":"x"}}`),
		"path out of the container": container(`"volumes":[{"mode":"RW","container_path":"../v","host_path":"/tmp"}]`),
		"path made on the host":     container(`"volumes":[{"mode":"RW","container_path":"/no/such/path","host_path":"/tmp"}]`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, agent.Options{})
			r := f.do(t, headers(), call)
			if body := text(t, r); r.StatusCode != http.StatusBadRequest || body == "" {
				t.Errorf("status %d (%s), want 400", r.StatusCode, body)
			}
			if len(f.engine.containers) != 0 {
				t.Error("something was launched")
			}
			if left, _ := os.ReadDir(f.dir); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestLaunchFails: the true reason is told, and the container goes.
func TestLaunchFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t, agent.Options{})
	f.engine.fail = fmt.Errorf("execute %q: %w", "/nope", containerizer.ErrCommandNotFound)
	r := f.do(t, headers(), `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"a"},"command":{"value":"true"}}}`)
	if body := text(t, r); r.StatusCode != http.StatusBadRequest || !strings.Contains(body, "/nope") {
		t.Errorf("%d %s", r.StatusCode, body)
	}
	if _, err := f.engine.Status(t.Context(), "a"); !errors.Is(err, containerizer.ErrNotFound) {
		t.Error("the container is there")
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	f := newFixture(t, agent.Options{})
	box := filepath.Join(f.dir, "containers", "a")
	if err := os.MkdirAll(filepath.Join(box, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(f.dir, "secret")
	for path, content := range map[string]string{filepath.Join(box, "stdout"): strings.Repeat("0123456789", 10000), secret: "secret", filepath.Join(f.dir, "containers", "ab"): "x"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"absolute": secret, "relative": "../../secret", "out": "../..", "in": "stdout", "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(box, name)); err != nil {
			t.Fatal(err)
		}
	}
	for call, want := range map[string]string{
		`{"path":"` + box + `/stdout","offset":99995}`:                     `{"size":100000,"data":"NTY3ODk="}`,
		`{"path":"` + box + `/stdout","offset":1,"length":2}`:              `{"size":100000,"data":"MTI="}`,
		`{"path":"` + box + `/in","offset":0,"length":1}`:                  `{"size":100000,"data":"MA=="}`,
		`{"path":"` + box + `/stdout","offset":0,"length":0}`:              `{"size":100000,"data":""}`,
		`{"path":"` + box + `/stdout","offset":100000}`:                    `{"size":100000,"data":""}`,
		`{"path":"` + box + `/stdout","offset":` + "18446744073709551615}": `{"size":100000,"data":""}`,
	} {
		r := f.do(t, headers(), `{"type":"READ_FILE","read_file":`+call+`}`)
		if got := text(t, r); got != `{"type":"READ_FILE","read_file":`+want+`}` {
			t.Errorf("%s: %d %s", call, r.StatusCode, got)
		}
	}
	r := f.do(t, headers(), `{"type":"READ_FILE","read_file":{"path":"`+box+`/stdout","offset":0}}`)
	if got := len(text(t, r)); got < 65536*4/3 || got > 65536*4/3+100 {
		t.Errorf("one call reads 64 KiB, not so that the answer has %d bytes", got)
	}
	for path, want := range map[string]int{
		box: 400, box + "/dir": 400, box + "/nothing": 404, box + "/stdout/x": 404, box + "/absolute": 400, box + "/relative": 400,
		box + "/out/secret": 400, box + "/loop": 400, box + "/../../secret": 400, secret: 404, "stdout": 400, "/etc/passwd": 404, "/": 404,
		f.dir + "/containers": 404, f.dir + "/containers/nobody/stdout": 404, f.dir + "/containers/ab/x": 404, "/slave/log": 404, "": 400,
	} {
		r := f.do(t, headers(), fmt.Sprintf(`{"type":"READ_FILE","read_file":{"path":%q,"offset":0}}`, path))
		if body := text(t, r); r.StatusCode != want || strings.Contains(body, "c2VjcmV0") {
			t.Errorf("%q: %d %s, want %d", path, r.StatusCode, body, want)
		}
	}
	r = f.do(t, headers(), `{"type":"LIST_FILES","list_files":{"path":"`+box+`"}}`)
	if got := text(t, r); !strings.Contains(got, `"path":"`+box+`/dir"`) || strings.Count(got, `"mtime"`) != 7 {
		t.Errorf("list: %d %s", r.StatusCode, got)
	}
	if r := f.do(t, headers(), `{"type":"LIST_FILES","list_files":{"path":"`+box+`/out"}}`); r.StatusCode != 400 {
		t.Errorf("a list outside: %d %s", r.StatusCode, text(t, r))
	}
}
