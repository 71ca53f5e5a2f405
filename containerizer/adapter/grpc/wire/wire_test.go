package wire_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/proto"

	"github.com/berth-dev/berth/containerizer"
	grpcadapter "github.com/berth-dev/berth/containerizer/adapter/grpc"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/wire"
	berthv1 "github.com/berth-dev/berth/proto/berth/v1"
)

// pairs are all that is translated.
func pairs() []struct {
	value   any
	message proto.Message
} {
	return []struct {
		value   any
		message proto.Message
	}{
		{&containerizer.Spec{}, &berthv1.Spec{}},
		{&containerizer.Process{}, &berthv1.Process{}},
		{&containerizer.Resources{}, &berthv1.Resources{}},
		{&containerizer.Status{}, &berthv1.Container{}},
		{&containerizer.Termination{}, &berthv1.Termination{}},
		{&containerizer.Usage{}, &berthv1.Usage{}},
		{&containerizer.Event{}, &berthv1.Event{}},
		{&containerizer.Filter{}, &berthv1.ListRequest{}},
		{&containerizer.ImageSource{}, &berthv1.ImageSource{}},
		{&containerizer.Image{}, &berthv1.Image{}},
		{&containerizer.Progress{}, &berthv1.Progress{}},
		{&containerizer.PruneOptions{}, &berthv1.PruneRequest{}},
		{&containerizer.PruneReport{}, &berthv1.PruneReport{}},
		{&containerizer.StoreUsage{}, &berthv1.StoreUsageResponse{}},
		{&containerizer.StoreCheck{}, &berthv1.CheckStoreResponse{}},
		{&containerizer.Artifact{}, &berthv1.Artifact{}},
		{&containerizer.ArtifactProgress{}, &berthv1.ArtifactProgress{}},
		{&containerizer.FetchedArtifact{}, &berthv1.FetchedArtifact{}},
		{&containerizer.ArtifactCacheUsage{}, &berthv1.CacheUsageResponse{}},
		{&containerizer.RecoverReport{}, &berthv1.RecoverResponse{}},
		{&grpcadapter.Info{}, &berthv1.InfoResponse{}},
	}
}

// words are values of the vocabulary's closed types, which travel as enums.
func words(t reflect.Type) string {
	return map[reflect.Type]string{
		reflect.TypeFor[containerizer.Class]():         string(containerizer.ClassPodSandbox),
		reflect.TypeFor[containerizer.PullPolicy]():    string(containerizer.PullAlways),
		reflect.TypeFor[containerizer.GroupsPolicy]():  string(containerizer.GroupsStrict),
		reflect.TypeFor[containerizer.NamespaceMode](): string(containerizer.NamespaceContainer),
		reflect.TypeFor[containerizer.MountType]():     string(containerizer.MountSandboxPath),
		reflect.TypeFor[containerizer.Protocol]():      string(containerizer.ProtocolSCTP),
		reflect.TypeFor[containerizer.LogDriver]():     string(containerizer.LogPassthrough),
		reflect.TypeFor[containerizer.State]():         string(containerizer.StatePaused),
		reflect.TypeFor[containerizer.Reason]():        string(containerizer.ReasonOOMKilled),
		reflect.TypeFor[containerizer.EventType]():     string(containerizer.EventOOM),
		reflect.TypeFor[containerizer.Phase]():         string(containerizer.PhaseUnpacking),
	}[t]
}

// fill sets v and all below to something.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(int64(*n), 7).UTC()))
		return
	case map[string]any:
		v.Set(reflect.ValueOf(map[string]any{"list": []any{"a", true, 1.5}}))
		return
	case *v1.Image:
		v.Set(reflect.ValueOf(&v1.Image{Author: "somebody"}))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), n)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, n)
		fill(elem, n)
		v.SetMapIndex(key, elem)
	case reflect.String:
		v.SetString(words(v.Type()))
		if v.String() == "" {
			v.SetString(fmt.Sprintf("text %d ü", *n))
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n)) //nolint:gosec // small
	case reflect.Float64:
		v.SetFloat(float64(*n) + 0.5)
	case reflect.Func:
	default:
		panic("fill " + v.Type().String())
	}
}

// TestRoundTrip holds that every field of the vocabulary travels. It fails when a
// field is added here or in the .proto files only.
func TestRoundTrip(t *testing.T) {
	for _, p := range pairs() {
		typ := reflect.TypeOf(p.value).Elem()
		t.Run(typ.Name(), func(t *testing.T) {
			n := 0
			fill(reflect.ValueOf(p.value).Elem(), &n)
			if err := wire.Encode(p.message, p.value); err != nil {
				t.Fatal(err)
			}
			raw, err := proto.Marshal(p.message)
			if err != nil {
				t.Fatal(err)
			}
			back := proto.Clone(p.message)
			proto.Reset(back)
			if err := proto.Unmarshal(raw, back); err != nil {
				t.Fatal(err)
			}
			got := reflect.New(typ).Interface()
			if err := wire.Decode(got, back); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(p.value, got); d != "" {
				t.Errorf("what arrived differs (-sent +arrived):\n%s", d)
			}
		})
	}
}

// TestAuthTravels: credentials are hidden from JSON, but not from the wire.
func TestAuthTravels(t *testing.T) {
	sent := &containerizer.ImageSource{Auth: &containerizer.RegistryAuth{Username: "u", Password: "secret", RegistryToken: "t"}}
	m := &berthv1.ImageSource{}
	if err := wire.Encode(m, sent); err != nil {
		t.Fatal(err)
	}
	got := &containerizer.ImageSource{}
	if err := wire.Decode(got, m); err != nil {
		t.Fatal(err)
	}
	if *got.Auth != *sent.Auth {
		t.Error("the credentials that arrived differ")
	}
}

func TestPresence(t *testing.T) {
	zero, empty := int64(0), []string{}
	sent := &containerizer.Spec{Security: containerizer.Security{MaskedPaths: &empty}}
	sent.Resources.Linux.Memory = nil
	sent.Process.OOMScoreAdj = new(int)
	sent.StopTimeout = new(time.Duration)
	m, got := &berthv1.Spec{}, &containerizer.Spec{}
	if err := wire.Encode(m, sent); err != nil {
		t.Fatal(err)
	}
	if err := wire.Decode(got, m); err != nil {
		t.Fatal(err)
	}
	if got.Security.MaskedPaths == nil || len(*got.Security.MaskedPaths) != 0 || got.Security.ReadonlyPaths != nil {
		t.Errorf("path lists arrived as %v and %v", got.Security.MaskedPaths, got.Security.ReadonlyPaths)
	}
	if got.Process.OOMScoreAdj == nil || int64(*got.Process.OOMScoreAdj) != zero || got.StopTimeout == nil || *got.StopTimeout != 0 {
		t.Error("a zero that was set arrived as not set")
	}
}

func TestRefuses(t *testing.T) {
	for name, f := range map[string]func() error{
		"text that is none": func() error {
			return wire.Encode(&berthv1.Spec{}, &containerizer.Spec{RootfsPath: "/\xff"})
		},
		"unknown word": func() error {
			return wire.Encode(&berthv1.Spec{}, &containerizer.Spec{Class: "odd"})
		},
		"unknown number of an enum": func() error {
			return wire.Decode(&containerizer.Spec{}, &berthv1.Spec{Class: 99})
		},
		"port out of range": func() error {
			return wire.Decode(&containerizer.Spec{}, &berthv1.Spec{Network: &berthv1.Network{Ports: []*berthv1.PortMapping{{HostPort: 1 << 17}}}})
		},
	} {
		if err := f(); !errors.Is(err, containerizer.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	bytes := &containerizer.Spec{Process: containerizer.Process{Args: []string{"\xff\xfe"}, Env: []string{"A=\x80"}}}
	m, got := &berthv1.Spec{}, &containerizer.Spec{}
	if err := errors.Join(wire.Encode(m, bytes), wire.Decode(got, m)); err != nil || got.Process.Args[0] != "\xff\xfe" || got.Process.Env[0] != "A=\x80" {
		t.Errorf("bytes arrived as %q %q, %v", got.Process.Args, got.Process.Env, err)
	}
}

// TestErrors: classes survive the way, and words are not doubled.
func TestErrors(t *testing.T) {
	for _, class := range []error{
		containerizer.ErrNotFound, containerizer.ErrAlreadyExists, containerizer.ErrInvalid, containerizer.ErrUnsupported,
		containerizer.ErrFailedPrecondition, containerizer.ErrPermission, containerizer.ErrUntrusted, containerizer.ErrUnavailable,
		containerizer.ErrResourceExhausted, containerizer.ErrDataCorrupt, containerizer.ErrCommandNotFound,
		containerizer.ErrCommandNotExecutable, context.DeadlineExceeded, context.Canceled,
	} {
		sent := fmt.Errorf("try something: %w", class)
		got := wire.Error(wire.Status(sent))
		if !errors.Is(got, class) || got.Error() != sent.Error() {
			t.Errorf("%v arrived as %v", sent, got)
		}
	}
	if err := wire.Error(wire.Status(errors.New("odd"))); err.Error() != "odd" {
		t.Errorf("an internal fault arrived as %v", err)
	}
	if wire.Status(nil) != nil || wire.Error(nil) != nil {
		t.Error("nil did not stay nil")
	}
}
