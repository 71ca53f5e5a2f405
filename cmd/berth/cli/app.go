package cli

import (
	"context"
	"io"
	"os"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/containerizer"
)

// Node is this machine's containers and images, as far as a command needs them.
// Each part is made when it is first asked for.
type Node interface {
	Engine(ctx context.Context) (containerizer.Engine, error)
	// Expect says that a container called id is about to be launched, so that what
	// takes long to start may start now. It is a hint.
	Expect(id containerizer.ContainerID)
	Images(ctx context.Context) (containerizer.Images, error)
	// Artifacts fetches what URIs name.
	Artifacts(ctx context.Context) (containerizer.Artifacts, error)
	// Program returns what a launch of spec would do, readably, and does none of it
	// beyond providing the image.
	Program(ctx context.Context, id containerizer.ContainerID, spec *containerizer.Spec) (string, error)
	// Login keeps credentials once the registry accepts them, and says where. Logout
	// forgets them, and says whether there were any.
	Login(ctx context.Context, registry string, auth containerizer.RegistryAuth) (where string, err error)
	Logout(ctx context.Context, registry string) (found bool, err error)
	// Sweep does what commands put off, such as deleting files.
	Sweep(ctx context.Context) error
	// SweepBriefly does so for somebody who waits for it, and leaves to later what
	// would have to wait for others.
	SweepBriefly(ctx context.Context) error
	Close() error
}

// Settings are what the global flags, the environment and the configuration file
// say together.
type Settings struct {
	config.Config
	// ConfigPath is the file that was read, or would have been.
	ConfigPath string
	// LogLevel is "error", "warn", "info" or "debug".
	LogLevel string
	// Host is the daemon to use: "unix:///PATH", "tcp://HOST:PORT", "none", or "" for the one
	// that listens at the configured place, if it does.
	Host string
	// TLS is how to speak to one over tcp; the zero value is without.
	TLS TLS
	// Here is for commands that no daemon can do, whatever Host says.
	Here bool
}

// App is what commands run with.
type App struct {
	In  *os.File
	Out io.Writer
	Err io.Writer
	// Open makes the node. It is called at most once.
	Open func(Settings) (Node, error)
	// Become does the whole command in another program, in place of this one, where this
	// one misses something (ErrElsewhere, ErrDaemon). It returns only when that fails, and
	// may be nil.
	Become func(program string) error
	// OpenURL reads what is at an http or https URL; nil is for a program that cannot.
	OpenURL func(ctx context.Context, url string) (io.ReadCloser, error)
	// External is what `berth mesos external` does; nil is for a program that cannot.
	External External
	// Version is shown by `berth version`.
	Version Version

	settings *Settings
	globals  globals
	here     bool // the command is none for a daemon
	node     Node
}

// Version says what was built.
type Version struct {
	Version string `json:"Version"`
	Commit  string `json:"GitCommit"`
	Go      string `json:"GoVersion"`
	OS      string `json:"Os"`
	Arch    string `json:"Arch"`
}

// Settings returns the settings, which it reads when it is first called.
func (a *App) Settings() (*Settings, error) {
	if a.settings == nil {
		s, err := a.globals.settings()
		if err != nil {
			return nil, err
		}
		a.settings = s
	}
	return a.settings, nil
}

func (a *App) openNode() (Node, error) {
	if a.node == nil {
		s, err := a.Settings()
		if err != nil {
			return nil, err
		}
		s.Here = s.Here || a.here
		if a.node, err = a.Open(*s); err != nil {
			return nil, err
		}
	}
	return a.node, nil
}

func (a *App) engine(ctx context.Context) (containerizer.Engine, error) {
	n, err := a.openNode()
	if err != nil {
		return nil, err
	}
	return n.Engine(ctx)
}

func (a *App) images(ctx context.Context) (containerizer.Images, error) {
	n, err := a.openNode()
	if err != nil {
		return nil, err
	}
	return n.Images(ctx)
}

func (a *App) artifacts(ctx context.Context) (containerizer.Artifacts, error) {
	n, err := a.openNode()
	if err != nil {
		return nil, err
	}
	return n.Artifacts(ctx)
}

func (a *App) close() error {
	if a.node == nil {
		return nil
	}
	return a.node.Close()
}
