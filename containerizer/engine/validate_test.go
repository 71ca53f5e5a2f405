package engine

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

func validSpec() *containerizer.Spec {
	return &containerizer.Spec{
		Name: "name", RootfsPath: "/", Process: containerizer.Process{Args: []string{"x"}, Env: []string{"A=b=c", "E="}, User: "1:2"},
		Labels: map[string]string{"a": ""},
		Mounts: []containerizer.Mount{
			{Type: containerizer.MountBind, Source: "/a", Destination: "/b", Options: []string{"ro", "rshared", "noexec"}},
			{Type: containerizer.MountTmpfs, Destination: "/tmp", Options: []string{"size=1m"}},
		},
	}
}

func TestValidateSpec(t *testing.T) {
	if err := ValidateSpec("id", validSpec()); err != nil {
		t.Fatalf("a valid spec: %v", err)
	}
	mount := func(m containerizer.Mount) func(*containerizer.Spec) {
		return func(s *containerizer.Spec) { s.Mounts = append(s.Mounts, m) }
	}
	ns := func(n containerizer.Namespace) func(*containerizer.Spec) {
		return func(s *containerizer.Spec) { s.Namespaces.PID = n }
	}
	mem := func(m specs.LinuxMemory) func(*containerizer.Spec) {
		return func(s *containerizer.Spec) { s.Resources.Linux.Memory = &m }
	}
	for name, c := range map[string]struct {
		spoil func(*containerizer.Spec)
		says  string
	}{
		"name with slash":      {func(s *containerizer.Spec) { s.Name = "a/b" }, `name "a/b"`},
		"name begins with dot": {func(s *containerizer.Spec) { s.Name = ".a" }, `'.'`},
		"long name":            {func(s *containerizer.Spec) { s.Name = strings.Repeat("a", 300) }, "300 bytes"},
		"class":                {func(s *containerizer.Spec) { s.Class = "vm" }, `class "vm"`},
		"empty label":          {func(s *containerizer.Spec) { s.Labels[""] = "x" }, "label"},
		"two roots":            {func(s *containerizer.Spec) { s.Image = &containerizer.ImageSource{Reference: "x"} }, "choose one"},
		"no root":              {func(s *containerizer.Spec) { s.RootfsPath = "" }, "neither"},
		"relative root":        {func(s *containerizer.Spec) { s.RootfsPath = "x" }, "absolute"},
		"empty image":          {func(s *containerizer.Spec) { s.RootfsPath, s.Image = "", &containerizer.ImageSource{} }, "reference"},
		"pull policy": {func(s *containerizer.Spec) {
			s.RootfsPath, s.Image = "", &containerizer.ImageSource{Reference: "x", Pull: "often"}
		}, "often"},
		"propagation":      {func(s *containerizer.Spec) { s.RootfsPropagation = "lively" }, "lively"},
		"env without =":    {func(s *containerizer.Spec) { s.Process.Env = []string{"A"} }, `"A"`},
		"env without name": {func(s *containerizer.Spec) { s.Process.Env = []string{"=a"} }, `"=a"`},
		"NUL in argument":  {func(s *containerizer.Spec) { s.Process.Args = []string{"a", "b\x00"} }, "argument 1"},
		"working dir":      {func(s *containerizer.Spec) { s.Process.WorkingDir = "../x" }, "working directory"},
		"user":             {func(s *containerizer.Spec) { s.Process.User = "a:b:c" }, `"a:b:c"`},
		"user id":          {func(s *containerizer.Spec) { s.Process.User = "4294967295" }, "4294967295"},
		"group":            {func(s *containerizer.Spec) { s.Process.AdditionalGroups = []string{""} }, "group"},
		"umask":            {func(s *containerizer.Spec) { s.Process.Umask = new(uint32(0o1000)) }, "umask"},
		"oom score":        {func(s *containerizer.Spec) { s.Process.OOMScoreAdj = new(1001) }, "1001"},
		"rlimit":           {func(s *containerizer.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_X"}} }, "RLIMIT_X"},
		"rlimit twice": {func(s *containerizer.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "nofile"}, {Type: "RLIMIT_NOFILE"}}
		}, "twice"},
		"soft above hard": {func(s *containerizer.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "nofile", Soft: 2, Hard: 1}}
		}, "soft"},
		"stdin once":         {func(s *containerizer.Spec) { s.Process.StdinOnce = true }, "standard input"},
		"namespace mode":     {ns(containerizer.Namespace{Mode: "odd"}), "odd"},
		"parent of root":     {ns(containerizer.Namespace{Mode: containerizer.NamespaceParent}), "no"},
		"own container":      {ns(containerizer.Namespace{Mode: containerizer.NamespaceContainer, Container: "id"}), "itself"},
		"no container":       {ns(containerizer.Namespace{Mode: containerizer.NamespaceContainer}), "not an id"},
		"relative path":      {ns(containerizer.Namespace{Mode: containerizer.NamespacePath, Path: "x"}), "absolute"},
		"path without mode":  {ns(containerizer.Namespace{Path: "/x"}), "mode"},
		"mapping without ns": {func(s *containerizer.Spec) { s.Namespaces.UIDMappings = []specs.LinuxIDMapping{{Size: 1}} }, "private user namespace"},
		"mapping overlap": {func(s *containerizer.Spec) {
			s.Namespaces.User.Mode = containerizer.NamespacePrivate
			s.Namespaces.UIDMappings = []specs.LinuxIDMapping{{Size: 10}, {ContainerID: 9, HostID: 100, Size: 1}}
			s.Namespaces.GIDMappings = []specs.LinuxIDMapping{{Size: 10}}
		}, "overlap"},
		"mapping beyond": {func(s *containerizer.Spec) {
			s.Namespaces.User.Mode = containerizer.NamespacePrivate
			s.Namespaces.UIDMappings = []specs.LinuxIDMapping{{HostID: 1<<32 - 1, Size: 2}}
			s.Namespaces.GIDMappings = []specs.LinuxIDMapping{{Size: 10}}
		}, "last id"},
		"time offsets": {func(s *containerizer.Spec) {
			s.Namespaces.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {}}
		}, "time"},
		"mount type":        {mount(containerizer.Mount{Type: "odd", Destination: "/x"}), "odd"},
		"mount on mount":    {mount(containerizer.Mount{Type: containerizer.MountTmpfs, Destination: "/b/"}), "two mounts"},
		"mount on root":     {mount(containerizer.Mount{Type: containerizer.MountTmpfs, Destination: "/."}), "itself"},
		"mount with dots":   {mount(containerizer.Mount{Type: containerizer.MountTmpfs, Destination: "/a/../b"}), "'..'"},
		"mount relative":    {mount(containerizer.Mount{Type: containerizer.MountTmpfs, Destination: "a"}), "absolute"},
		"relative source":   {mount(containerizer.Mount{Type: containerizer.MountBind, Source: "a", Destination: "/x"}), "absolute"},
		"ro and rw":         {mount(containerizer.Mount{Type: containerizer.MountTmpfs, Destination: "/x", Options: []string{"ro", "rw"}}), "exclude"},
		"two propagations":  {mount(containerizer.Mount{Type: containerizer.MountTmpfs, Destination: "/x", Options: []string{"slave", "rshared"}}), "exclude"},
		"empty option":      {mount(containerizer.Mount{Type: containerizer.MountTmpfs, Destination: "/x", Options: []string{""}}), "option"},
		"volume name":       {mount(containerizer.Mount{Type: containerizer.MountVolume, Source: "../x", Destination: "/x"}), "volume"},
		"image mount":       {mount(containerizer.Mount{Type: containerizer.MountImage, Destination: "/x"}), "no image"},
		"sandbox of parent": {mount(containerizer.Mount{Type: containerizer.MountSandboxPath, Source: "parent:x", Destination: "/x"}), "no parent"},
		"sandbox path":      {mount(containerizer.Mount{Type: containerizer.MountSandboxPath, Source: "../x", Destination: "/x"}), "relative"},
		"sub-path":          {mount(containerizer.Mount{Type: containerizer.MountBind, Source: "/a", SubPath: "../x", Destination: "/x"}), "sub-path"},
		"relabel":           {mount(containerizer.Mount{Type: containerizer.MountBind, Source: "/a", Relabel: "z", Destination: "/x"}), "relabelling"},
		"device":            {func(s *containerizer.Spec) { s.Devices = []containerizer.Device{{HostPath: "null"}} }, "absolute"},
		"device permissions": {func(s *containerizer.Spec) {
			s.Devices = []containerizer.Device{{HostPath: "/dev/null", Permissions: "x"}}
		}, "rwm"},
		"CDI":         {func(s *containerizer.Spec) { s.CDIDevices = []string{"gpu0"} }, "gpu0"},
		"seccomp":     {func(s *containerizer.Spec) { s.Security.Seccomp = "x.json" }, "seccomp"},
		"SELinux":     {func(s *containerizer.Spec) { s.Security.SELinux = map[string]string{"x": ""} }, "SELinux"},
		"masked path": {func(s *containerizer.Spec) { s.Security.MaskedPaths = &[]string{"proc"} }, "masked"},
		"host name":   {func(s *containerizer.Spec) { s.Network.Hostname = "a b" }, "host name"},
		"DNS server":  {func(s *containerizer.Spec) { s.Network.DNSServers = []string{"one.one"} }, "one.one"},
		"extra host":  {func(s *containerizer.Spec) { s.Network.ExtraHosts = []string{"name"} }, "name:address"},
		"port without net": {func(s *containerizer.Spec) {
			s.Namespaces.Network.Mode = containerizer.NamespaceHost
			s.Network.Ports = []containerizer.PortMapping{{Protocol: "tcp", ContainerPort: 1}}
		}, "no network of its own"},
		"port twice": {func(s *containerizer.Spec) {
			p := containerizer.PortMapping{Protocol: "tcp", ContainerPort: 1, HostPort: 80}
			s.Network.Ports = []containerizer.PortMapping{p, p}
		}, "twice"},
		"protocol": {func(s *containerizer.Spec) {
			s.Network.Ports = []containerizer.PortMapping{{Protocol: "icmp", ContainerPort: 1}}
		}, "icmp"},
		"address": {func(s *containerizer.Spec) {
			s.Network.Networks = []containerizer.NetworkAttachment{{IPs: []string{"x"}}}
		}, "address"},
		"little memory":  {mem(specs.LinuxMemory{Limit: new(int64(1))}), "least possible"},
		"little swap":    {mem(specs.LinuxMemory{Limit: new(int64(1 << 30)), Swap: new(int64(1 << 20))}), "swap"},
		"reservation":    {mem(specs.LinuxMemory{Limit: new(int64(1 << 30)), Reservation: new(int64(1 << 31))}), "reservation"},
		"CPU period":     {func(s *containerizer.Spec) { s.Resources.Linux.CPU = &specs.LinuxCPU{Period: new(uint64(1))} }, "period"},
		"unified":        {func(s *containerizer.Spec) { s.Resources.Linux.Unified = map[string]string{"../x": ""} }, "cgroup file"},
		"stop signal":    {func(s *containerizer.Spec) { s.StopSignal = "SIGX" }, "SIGX"},
		"stop timeout":   {func(s *containerizer.Spec) { s.StopTimeout = new(-time.Second) }, "negative"},
		"log driver":     {func(s *containerizer.Spec) { s.Log.Driver = "syslog" }, "syslog"},
		"log path":       {func(s *containerizer.Spec) { s.Log.Path = "x" }, "absolute"},
		"log files":      {func(s *containerizer.Spec) { s.Log.MaxFiles = 3 }, "size"},
		"cgroup parent":  {func(s *containerizer.Spec) { s.CgroupParent = "/a/../.." }, "cgroup parent"},
		"sysctl":         {func(s *containerizer.Spec) { s.Sysctls = map[string]string{"/etc/passwd": "x"} }, "sysctl"},
		"sandbox in pod": {func(s *containerizer.Spec) { s.Class = containerizer.ClassPodSandbox }, "no process"},
	} {
		t.Run(name, func(t *testing.T) {
			s := validSpec()
			c.spoil(s)
			err := ValidateSpec("id", s)
			if !errors.Is(err, containerizer.ErrInvalid) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("ValidateSpec = %v, want one sentence of class invalid with %q", err, c.says)
			}
		})
	}
	s := validSpec()
	s.Runtime = "/usr/bin/crun"
	if err := ValidateSpec("id", s); !errors.Is(err, containerizer.ErrInvalid) {
		t.Errorf("a runtime by its path: %v", err)
	}
	deep := containerizer.ContainerID(strings.Repeat(strings.Repeat("x", 200)+".", 6) + "x")
	if err := ValidateSpec(deep, validSpec()); !errors.Is(err, containerizer.ErrInvalid) {
		t.Errorf("an id of %d bytes: %v", len(deep), err)
	}
	child := &containerizer.Spec{Process: containerizer.Process{Args: []string{"x"}}}
	if err := ValidateSpec("id.child", child); err != nil {
		t.Errorf("a child without root filesystem: %v", err)
	}
	child.Name = "x"
	if err := ValidateSpec("id.child", child); !errors.Is(err, containerizer.ErrInvalid) {
		t.Errorf("a child with a name: %v", err)
	}
}

// FuzzValidateSpec: whatever is decoded is either refused in one line, or can be
// written down and read again.
func FuzzValidateSpec(f *testing.F) {
	b, err := json.Marshal(validSpec())
	if err != nil {
		f.Fatal(err)
	}
	f.Add("id", b)
	f.Add("a.b", []byte(`{"process":{"env":["="],"user":":","rlimits":[{"type":"x"}]},"mounts":[{"type":"image"}],"network":{"ports":[{}]}}`))
	f.Fuzz(func(t *testing.T, id string, b []byte) {
		var s containerizer.Spec
		if json.Unmarshal(b, &s) != nil {
			return
		}
		if err := ValidateSpec(containerizer.ContainerID(id), &s); err != nil {
			if strings.Contains(err.Error(), "\n") || !errors.Is(err, containerizer.ErrInvalid) && !errors.Is(err, containerizer.ErrUnsupported) {
				t.Fatalf("error %q", err)
			}
			return
		}
		req, err := newRequest(containerizer.ContainerID(id), &s)
		if err != nil {
			t.Fatal(err)
		}
		l := &loaded{id: req.ID, req: *req}
		if err := l.decode(); err != nil {
			t.Fatal(err)
		}
		again, err := newRequest(req.ID, l.spec)
		if err != nil || again.Hash != req.Hash {
			t.Fatalf("the spec changes when it is written and read: %v\n%s\n%s", err, req.Spec, again.Spec)
		}
	})
}

// FuzzRecords reads foreign bytes as every kind of record.
func FuzzRecords(f *testing.F) {
	f.Add([]byte(`{"state":"running","owed":["x"],"names":["a",""]}`))
	f.Add([]byte(`{"at":"2026-01-01T00:00:00Z","type":"exited","id":"x","termination":{"exitCode":1}}` + "\n{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for ev := range parseJournal(b) {
			if _, err := json.Marshal(ev); err != nil {
				t.Fatal(err)
			}
		}
		l := &loaded{id: "x"}
		if json.Unmarshal(b, &l.st) != nil || json.Unmarshal(b, &l.req) != nil || l.decode() != nil {
			return
		}
		for _, n := range l.names() {
			if n == "" {
				t.Fatal("an empty name")
			}
		}
	})
}
