package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/cmd/berth/internal/specflag"
	"github.com/berth-dev/berth/containerizer"
)

// createFlags are the flags that run and create share.
type createFlags struct {
	specflag.Flags
	cidFile  string
	quiet    bool
	registry registryFlags
	dryRun   bool // of run
}

func (f *createFlags) register(set *pflag.FlagSet) {
	f.Register(set)
	f.registry.register(set)
	set.Bool("help", false, "show this help") // cobra's own takes -h, which is the host name here
	set.StringVar(&f.cidFile, "cidfile", "", "write the container's id to this `file`")
	set.BoolVarP(&f.quiet, "quiet", "q", false, "show nothing of a pull")
}

func newCreate(a *App) *cobra.Command {
	f := &createFlags{}
	cmd := &cobra.Command{
		Use:               "create [flags] IMAGE [COMMAND [ARG...]]",
		Short:             "Create a container without running it",
		Args:              needImage,
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.create(cmd.Context(), f, args[0], args[1:])
		},
	}
	cmd.Flags().SetInterspersed(false)
	f.register(cmd.Flags())
	return cmd
}

func (a *App) create(ctx context.Context, f *createFlags, image string, command []string) error {
	m, err := a.newContainer(ctx, f, image, command)
	if err != nil {
		return err
	}
	if m.spec.Log.Driver == containerizer.LogPassthrough {
		return invalidf("--log-driver passthrough gives the process the descriptors of `berth run`; create has none to keep")
	}
	if err := m.claimID(); err != nil {
		return err
	}
	err = m.withImage(ctx, func() error { return m.engine.Prepare(ctx, m.id, m.spec) })
	if err != nil {
		return m.undo(err)
	}
	_, err = fmt.Fprintln(a.Out, m.id)
	return err
}

// newContainer is a container that is about to be made.
type newContainer struct {
	app     *App
	engine  containerizer.Engine
	id      containerizer.ContainerID
	spec    *containerizer.Spec
	cidFile string
	quiet   bool
	volumes []string // made for it
}

// newContainer describes the container that flags, image and command ask for.
func (a *App) newContainer(ctx context.Context, f *createFlags, image string, command []string) (*newContainer, error) {
	m := &newContainer{app: a, id: containerizer.NewContainerID(), cidFile: f.cidFile, quiet: f.quiet}
	settings, err := a.Settings()
	if err != nil {
		return nil, err
	}
	if err := f.registry.apply(settings); err != nil {
		return nil, err
	}
	node, err := a.openNode() // first: another program may have to do it
	if err != nil {
		return nil, err
	}
	if !f.dryRun {
		node.Expect(m.id)
	}
	if m.engine, err = node.Engine(ctx); err != nil {
		return nil, err
	}
	h := host{ctx: ctx, app: a, pull: func(source containerizer.ImageSource) (*containerizer.Image, error) {
		return m.pull(ctx, source)
	}}
	if m.spec, err = f.Spec(h, image, command); err != nil {
		return nil, err
	}
	if len(m.spec.Artifacts) > 0 && a.OpenURL == nil {
		return nil, ErrElsewhere // sooner than the engine finds out
	}
	return m, applyDefaults(m.spec, settings)
}

// claimID writes the id file.
func (m *newContainer) claimID() error {
	if m.cidFile == "" {
		return nil
	}
	f, err := os.OpenFile(m.cidFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("--cidfile: %w", err)
	}
	_, err = f.WriteString(m.id.String())
	return errors.Join(err, f.Close())
}

// undo takes back what was made for a container that did not come to be.
func (m *newContainer) undo(err error) error {
	if m.cidFile != "" {
		err = errors.Join(err, os.Remove(m.cidFile))
	}
	store, openErr := m.app.volumes()
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	for _, v := range m.volumes {
		err = errors.Join(err, store.Remove(v))
	}
	return err
}

// launch starts the container. When its command cannot be executed the container
// stays for a look, unless it is to be removed. client is nil without one.
func (m *newContainer) launch(
	ctx context.Context, o containerizer.LaunchOptions, client *session,
) (s containerizer.Session, err error) {
	start := func() error {
		progress := m.artifacts()
		defer progress.finish()
		o.Artifacts = progress.update
		s, err = m.engine.Launch(ctx, m.id, m.spec, o)
		return err
	}
	err = m.withImage(ctx, func() error {
		if client == nil {
			return start()
		}
		return client.launching(start)
	})
	if err == nil {
		return s, nil
	}
	unusable := errors.Is(err, containerizer.ErrCommandNotFound) || errors.Is(err, containerizer.ErrCommandNotExecutable)
	cleanup := context.WithoutCancel(ctx)
	switch {
	case unusable && !m.spec.AutoRemove:
		return nil, err
	case unusable, ctx.Err() != nil: // what was cut off goes on without us, so end it
		err = errors.Join(err, m.engine.Destroy(cleanup, m.id))
	}
	return nil, m.undo(err)
}

// withImage runs make. The image is pulled first if it must be; when it may be
// local, that shows when make misses it, so that nothing is looked up twice. With
// artifacts, which may be missed as well, it is looked up before: they would be asked
// for again.
func (m *newContainer) withImage(ctx context.Context, do func() error) error {
	if err := m.makeVolumes(); err != nil {
		return err
	}
	source := m.spec.Image
	if source == nil || source.Pull == containerizer.PullNever {
		return do()
	}
	wanted := *source
	local := wanted
	local.Pull = containerizer.PullNever
	m.spec.Image = &local
	if wanted.Pull == containerizer.PullMissing && len(m.spec.Artifacts) == 0 {
		err := do()
		// What is not trusted yet may be, once the registry was asked for signatures.
		if !errors.Is(err, containerizer.ErrNotFound) && !errors.Is(err, containerizer.ErrUntrusted) {
			return err
		}
	}
	if _, err := m.pull(ctx, wanted); err != nil {
		return err
	}
	return do() // when something else was not found, this says so again
}

// pull provides the image, showing how it gets on.
func (m *newContainer) pull(ctx context.Context, source containerizer.ImageSource) (*containerizer.Image, error) {
	images, err := m.app.images(ctx)
	if err != nil {
		return nil, err
	}
	if source.Pull == containerizer.PullNever {
		return images.Inspect(ctx, source.Reference)
	}
	display := (&pullFlags{quiet: m.quiet}).progress(m.app)
	defer display.Finish()
	news := false
	return images.Pull(ctx, source, containerizer.PullOptions{Progress: func(p containerizer.Progress) {
		// That all of it is here already is no news, even where it was looked up again.
		if news = news || p.Phase != "exists"; news {
			display.Update(p)
		}
	}})
}

// makeVolumes makes the volumes that do not exist yet.
func (m *newContainer) makeVolumes() error {
	for _, mount := range m.spec.Mounts {
		if mount.Type != containerizer.MountVolume {
			continue
		}
		store, err := m.app.volumes()
		if err != nil {
			return err
		}
		made, err := store.Ensure(mount.Source, nil)
		if err != nil {
			return err
		}
		if made {
			m.volumes = append(m.volumes, mount.Source)
		}
	}
	return nil
}

// destroy removes a container and its anonymous volumes.
func (a *App) destroy(
	ctx context.Context, engine containerizer.Engine, id containerizer.ContainerID, spec *containerizer.Spec,
) error {
	if err := engine.Destroy(ctx, id); err != nil {
		return err
	}
	names := anonymousVolumes(spec)
	if len(names) == 0 {
		return nil
	}
	store, err := a.volumes()
	if err != nil {
		return err
	}
	for _, n := range names {
		err = errors.Join(err, store.Remove(n))
	}
	return err
}

func splitList(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}
