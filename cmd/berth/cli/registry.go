package cli

import (
	"path/filepath"
	"strconv"

	"github.com/spf13/pflag"
)

// registryFlags say how a command speaks to registries, instead of the configuration.
type registryFlags struct {
	authFile string
	tls      tlsVerify
}

func (f *registryFlags) register(set *pflag.FlagSet) {
	f.registerAuthFile(set)
	f.tls.register(set)
}

func (f *registryFlags) registerAuthFile(set *pflag.FlagSet) {
	set.StringVar(&f.authFile, "authfile", "", "`file` of credentials instead of the default ones (REGISTRY_AUTH_FILE)")
}

// nodeWith opens the node with what the flags say.
func (a *App) nodeWith(f *registryFlags) (Node, error) {
	s, err := a.Settings()
	if err != nil {
		return nil, err
	}
	if err := f.apply(s); err != nil {
		return nil, err
	}
	return a.openNode()
}

// apply tells the settings, before a node is opened with them. No daemon has them.
func (f *registryFlags) apply(s *Settings) (err error) {
	if f.tls.given != nil {
		s.Here = true
		s.Registries.TLSVerify = f.tls.given
	}
	if f.authFile != "" {
		s.Here = true
		s.Registries.AuthFile, err = filepath.Abs(f.authFile)
	}
	return err
}

// tlsVerify is --tls-verify. The configuration decides where it is not given.
type tlsVerify struct{ given *bool }

var _ pflag.Value = (*tlsVerify)(nil)

func (f *tlsVerify) register(set *pflag.FlagSet) {
	set.VarPF(f, "tls-verify", "", "with false registries may be without TLS, or have any certificate; with true none may, configured or not").NoOptDefVal = "true"
}

// Set takes the value.
func (f *tlsVerify) Set(s string) error {
	b, err := strconv.ParseBool(s)
	f.given = &b
	return err
}

// String is the value; the configuration is shown as Podman shows it.
func (f *tlsVerify) String() string { return strconv.FormatBool(f.given == nil || *f.given) }

// Type is the type's name in help texts.
func (*tlsVerify) Type() string { return "bool" }
