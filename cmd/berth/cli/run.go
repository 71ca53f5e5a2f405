package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/cmd/berth/internal/specflag"
	"github.com/berth-dev/berth/cmd/berth/internal/terminal"
	"github.com/berth-dev/berth/cmd/berth/internal/volume"
	"github.com/berth-dev/berth/containerizer"
)

// runFlags are the flags of run besides those of the container.
type runFlags struct {
	createFlags
	detach     bool
	sigProxy   bool
	detachKeys string
	attach     []string
}

func newRun(a *App) *cobra.Command {
	f := &runFlags{}
	cmd := &cobra.Command{
		Use:   "run [flags] IMAGE [COMMAND [ARG...]]",
		Short: "Run a command in a new container",
		Example: `  berth run --rm -it debian:12 bash
  berth run -d --name web -p 8080:80 --memory 256m nginx
  berth run --rm --rootfs /srv/rootfs /bin/true`,
		Args: needImage,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.run(cmd.Context(), f, args[0], args[1:])
		},
		ValidArgsFunction: a.completeImages,
	}
	set := cmd.Flags()
	set.SetInterspersed(false)
	f.register(set)
	set.BoolVarP(&f.detach, "detach", "d", false, "run in the background and print the container's id")
	set.BoolVar(&f.sigProxy, "sig-proxy", true, "pass signals on to the process (without a terminal)")
	set.StringVar(&f.detachKeys, "detach-keys", terminal.DefaultDetachKeys, "`keys` that leave the container running")
	set.StringArrayVarP(&f.attach, "attach", "a", nil, "connect only this `stream`: stdin, stdout or stderr")
	set.BoolVar(&f.dryRun, "dry-run", false, "print the program that the launch would be, and run nothing")
	return cmd
}

func needImage(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return invalidf("%s needs an image (or, with --rootfs, a directory)", cmd.CommandPath())
	}
	return nil
}

func (a *App) run(ctx context.Context, f *runFlags, image string, command []string) error {
	o, err := f.streams()
	if err != nil {
		return err
	}
	a.here = f.Passthrough() // no daemon gets our descriptors; it sees the container all the same
	made, err := a.newContainer(ctx, &f.createFlags, image, command)
	if err != nil {
		return err
	}
	if f.dryRun {
		return a.dryRun(ctx, made)
	}
	p := &made.spec.Process
	p.StdinOnce = p.Stdin && o.stdin && !p.Terminal // with a terminal one may detach
	if err := made.claimID(); err != nil {
		return err
	}
	if f.detach {
		err = a.runDetached(ctx, made)
	} else {
		err = a.runForeground(ctx, made, o)
	}
	return err
}

// streams says what run connects.
func (f *runFlags) streams() (streams, error) {
	o := streams{tty: f.Terminal(), sigProxy: f.sigProxy, detachKeys: f.detachKeys}
	if f.detach {
		if len(f.attach) > 0 {
			return o, invalidf("-d runs in the background, -a attaches: use one")
		}
		if f.Passthrough() {
			return o, invalidf("--log-driver passthrough gives the process the client's descriptors, which -d leaves")
		}
		return o, nil
	}
	for _, s := range f.attach {
		switch s {
		case "stdin", "STDIN":
			o.stdin = true
		case "stdout", "STDOUT":
			o.stdout = true
		case "stderr", "STDERR":
			o.stderr = true
		default:
			return o, invalidf("--attach %q: stdin, stdout and stderr exist", s)
		}
	}
	if len(f.attach) == 0 {
		o.stdin, o.stdout, o.stderr = f.Interactive(), true, true
	}
	if o.stdin && !f.Interactive() {
		return o, invalidf("--attach stdin needs -i, which keeps standard input open")
	}
	return o, nil
}

func (a *App) dryRun(ctx context.Context, m *newContainer) error {
	node, err := a.openNode()
	if err != nil {
		return err
	}
	text, err := node.Program(ctx, m.id, m.spec)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(a.Out, text)
	return err
}

func (a *App) runDetached(ctx context.Context, m *newContainer) error {
	if _, err := m.launch(ctx, containerizer.LaunchOptions{}, nil); err != nil {
		return err
	}
	_, err := fmt.Fprintln(a.Out, m.id)
	return err
}

func (a *App) runForeground(ctx context.Context, m *newContainer, o streams) error {
	if o.tty {
		m.spec.Process.ConsoleSize = a.consoleSize()
	}
	s, err := a.newSession(ctx, o)
	if err != nil {
		return m.undo(err)
	}
	io := &s.io
	if m.spec.Log.Driver == containerizer.LogPassthrough {
		if io, err = a.descriptors(o); err != nil {
			return m.undo(err)
		}
	}
	session, err := m.launch(ctx, containerizer.LaunchOptions{Attach: io}, s)
	if err != nil {
		return err
	}
	t, err := s.follow(ctx, a.containerTarget(m.engine, m.id, session))
	if errors.Is(err, errDetached) {
		return nil
	}
	if err != nil {
		return err
	}
	if m.spec.AutoRemove && (len(anonymousVolumes(m.spec)) > 0 || a.remote()) { // the rest goes by itself
		if err := a.destroy(context.WithoutCancel(ctx), m.engine, m.id, m.spec); err != nil {
			_, _ = fmt.Fprintf(a.Err, "berth: remove the container: %s\n", message(err))
		}
	}
	a.explain(t)
	return terminated(t)
}

// descriptors are the client's own, for --log-driver passthrough.
func (a *App) descriptors(o streams) (*containerizer.IO, error) {
	out, okOut := a.Out.(*os.File)
	errs, okErr := a.Err.(*os.File)
	if !okOut || !okErr || a.In == nil {
		return nil, sentencef(containerizer.ErrFailedPrecondition, "--log-driver passthrough needs files as standard streams")
	}
	if o.tty {
		return nil, invalidf("-t gives the process a terminal of its own, --log-driver passthrough the client's descriptors: use one")
	}
	return &containerizer.IO{Files: &[3]*os.File{a.In, out, errs}}, nil
}

// explain says why a container ended where its exit code does not.
func (a *App) explain(t *containerizer.Termination) {
	var why string
	switch {
	case t == nil:
	case t.OOMKilled:
		why = "the container was killed: out of memory"
	case t.Limitation != nil:
		why = "the container was killed: " + t.Limitation.String()
	case t.Reason == containerizer.ReasonUnknown:
		why = "how the container ended is not known: " + t.Message
	}
	if why != "" {
		_, _ = fmt.Fprintf(a.Err, "berth: %s\n", why)
	}
}

// anonymousVolumes lists the volumes that go with a container.
func anonymousVolumes(spec *containerizer.Spec) []string {
	if spec == nil {
		return nil
	}
	return slices.DeleteFunc(splitList(spec.Annotations[specflag.AnonymousVolumes]), func(s string) bool {
		return !volume.ValidName(s)
	})
}
