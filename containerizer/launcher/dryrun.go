package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/berth-dev/berth/containerizer"
)

// ErrDryRun is what a launch by a [DryRun] ends with.
var ErrDryRun = errors.New("nothing was launched: this is a dry run")

// DryRun is a launcher that prints the program of each launch in place of
// executing it. A launch opens what the program needs, so that it fails as the real
// one would, and then fails with ErrDryRun, upon which an engine undoes the rest.
type DryRun struct {
	*Launcher
	Out io.Writer
}

var _ containerizer.Launcher = (*DryRun)(nil)

// Prepare implements [containerizer.Preparer]; no monitor is started.
func (*DryRun) Prepare(context.Context, *containerizer.Container) {}

// Launch implements [containerizer.Launcher].
func (d *DryRun) Launch(_ context.Context, r containerizer.LaunchRequest) (*containerizer.Launched, error) {
	if isForeign(r.Container) {
		return nil, d.printBundle(r)
	}
	b, err := d.build(r)
	if err != nil {
		return nil, err
	}
	defer b.close()
	if _, err := b.program.WriteTo(d.Out); err != nil {
		return nil, fmt.Errorf("print the program: %w", err)
	}
	return nil, ErrDryRun
}

// printBundle prints what an OCI runtime would be given.
func (d *DryRun) printBundle(r containerizer.LaunchRequest) error {
	config, err := d.dryForeign(r)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(config, "", "  ")
	if err == nil {
		_, err = fmt.Fprintf(d.Out, "%s\n", text)
	}
	if err != nil {
		return fmt.Errorf("print the bundle: %w", err)
	}
	return ErrDryRun
}
