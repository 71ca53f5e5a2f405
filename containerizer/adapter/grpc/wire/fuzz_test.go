package wire_test

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/wire"
	berthv1 "github.com/berth-dev/berth/proto/berth/v1"
)

// FuzzSpec: whatever a client sends as a spec is refused as invalid, or can be sent on.
func FuzzSpec(f *testing.F) {
	for _, m := range []*berthv1.Spec{
		{},
		{Name: "a", Process: &berthv1.Process{Args: [][]byte{{0xff}}}, Class: 7},
		{Network: &berthv1.Network{Ports: []*berthv1.PortMapping{{HostPort: 1 << 20}}}},
		{Security: &berthv1.Security{MaskedPaths: &berthv1.PathList{}}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := &berthv1.Spec{}
		if proto.Unmarshal(b, m) != nil {
			return
		}
		spec := &containerizer.Spec{}
		if err := wire.Decode(spec, m); err != nil {
			if !errors.Is(err, containerizer.ErrInvalid) {
				t.Errorf("Decode = %v, want ErrInvalid", err)
			}
			return
		}
		if err := wire.Encode(&berthv1.Spec{}, spec); err != nil {
			t.Errorf("what was decoded cannot be encoded: %v", err)
		}
	})
}
