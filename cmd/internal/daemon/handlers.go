package daemon

import (
	"context"
	"encoding/json"
	"maps"
	"os/exec"
	"slices"
	"time"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/containerizer/adapter/cri"
	"github.com/berth-dev/berth/containerizer/log"
)

// featuresPatience is how long an OCI runtime may take to say what it can do.
const featuresPatience = 5 * time.Second

// handlers are the OCI runtimes of the configuration, by name. They are asked once, when
// the daemon starts: a kubelet polls, and must not wait.
func (d *Daemon) handlers(ctx context.Context) []cri.Handler {
	var list []cri.Handler
	for _, name := range slices.Sorted(maps.Keys(d.o.Config.Runtimes)) {
		features, err := runtimeFeatures(ctx, d.o.Config.Runtimes[name])
		if err != nil { // as those before features(8) do
			d.o.Log.Info("an OCI runtime does not say what it can do", log.String("runtime", name), log.Error(err))
		}
		list = append(list, cri.Handler{Name: name, RecursiveReadOnly: slices.Contains(features.MountOptions, "rro")})
	}
	return list
}

// ociFeatures is what is read of the features structure of the runtime specification.
type ociFeatures struct {
	MountOptions []string `json:"mountOptions"`
}

// runtimeFeatures asks a runtime. What it answers with an error is the least.
func runtimeFeatures(ctx context.Context, r config.Runtime) (f ociFeatures, err error) {
	ctx, cancel := context.WithTimeout(ctx, featuresPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.Path, append(slices.Clone(r.Options), "features")...) //nolint:gosec // the operator's
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return f, err
	}
	return f, json.Unmarshal(out, &f)
}
