package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pelletier/go-toml/v2"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/policy"
)

// Where things are unless somebody says otherwise.
const (
	DefaultPath  = "/etc/berth/config.toml"
	DefaultRoot  = "/var/lib/berth"
	DefaultState = "/run/berth"
)

// Config is the content of the file. Zero values are berth's defaults.
type Config struct {
	// Path is the file that was read, Files that and its drop-ins, in order.
	Path  string   `toml:"-"`
	Files []string `toml:"-"`
	// Root holds images, writable layers and the records of containers; State what
	// does not outlive a restart of the node.
	Root  string `toml:"root"`
	State string `toml:"state"`
	// Isolation lists isolators by name, such as "cgroups/mem"; their order is
	// berth's. Empty is the default set.
	Isolation []string `toml:"isolation"`
	// Monitor is the path of berth-monitor; "" is beside berth.
	Monitor string `toml:"monitor"`

	Artifacts  Artifacts  `toml:"artifacts"`
	CDI        CDI        `toml:"cdi"`
	Cgroup     Cgroup     `toml:"cgroup"`
	Client     Client     `toml:"client"`
	Containers Containers `toml:"containers"`
	CRI        CRI        `toml:"cri"`
	Daemon     Daemon     `toml:"daemon"`
	Images     Images     `toml:"images"`
	Log        Log        `toml:"log"`
	Mesos      Mesos      `toml:"mesos"`
	Network    Network    `toml:"network"`
	NRI        NRI        `toml:"nri"`
	Pressure   Pressure   `toml:"pressure"`
	Pull       Pull       `toml:"pull"`
	Registries Registries `toml:"registries"`
	// Runtimes are OCI runtimes by name.
	Runtimes map[string]Runtime `toml:"runtimes"`
	TCP      TCP                `toml:"tcp"`
	Tracing  Tracing            `toml:"tracing"`
	Trust    Trust              `toml:"trust"`
}

// Artifacts says how artifacts are fetched.
type Artifacts struct {
	// CacheSize of all of them on this node, with a unit ("2g").
	CacheSize string `toml:"cache_size"`
	// MaxSize bounds the downloads of one container or `berth fetch`, MaxUnpacked what
	// one archive unpacks to ("100g").
	MaxSize     string `toml:"max_size"`
	MaxUnpacked string `toml:"max_unpacked"`
	// StallTimeoutSeconds is how long a server may send nothing.
	StallTimeoutSeconds int64 `toml:"stall_timeout_seconds"`
	// Hadoop is the path of the hadoop or hdfs command.
	Hadoop string `toml:"hadoop"`
}

// Cgroup says who makes control groups, and where.
type Cgroup struct {
	// Driver is "cgroupfs" or "systemd".
	Driver string `toml:"driver"`
	// Parent is the cgroup, or slice, that containers go below.
	Parent string `toml:"parent"`
}

// Containers are defaults for containers whose own description is silent.
type Containers struct {
	// Ulimits are "NAME=SOFT[:HARD]".
	Ulimits []string `toml:"ulimits"`
	// Seccomp is "default", "unconfined" or the path of a profile.
	Seccomp string `toml:"seccomp"`
	// PidsLimit bounds processes and threads; 0 does not.
	PidsLimit int64 `toml:"pids_limit"`
	// StopTimeoutSeconds is how long stop waits before SIGKILL.
	StopTimeoutSeconds *int64 `toml:"stop_timeout_seconds"`
	// HooksDir are folders of OCI hooks in the format of oci-hooks(5), later ones before
	// earlier ones; nil is those of Podman and CRI-O, an empty list is none.
	HooksDir []string `toml:"hooks_dir"`
}

// Log says how output is kept.
type Log struct {
	// MaxSize of a log file with a unit ("10m"); "" is no bound.
	MaxSize string `toml:"max_size"`
	// MaxFiles is how many are kept.
	MaxFiles int `toml:"max_files"`
}

// Network says where CNI finds its things, and what containers' names resolve by.
type Network struct {
	// ConfDir holds network configurations, PluginDirs the plug-ins.
	ConfDir    string   `toml:"conf_dir"`
	PluginDirs []string `toml:"plugin_dirs"`
	// Default is the name of the network that containers join unless told otherwise.
	Default string `toml:"default"`
	// DNS servers for containers that name none.
	DNS []string `toml:"dns"`
}

// maxPullLayers is more than any line is made faster by.
const maxPullLayers = 64

// Pull bounds what fetching images takes.
type Pull struct {
	// Layers fetched and unpacked at once, each over one connection and with about
	// 16 MiB of memory; 0 is by the processors.
	Layers int `toml:"layers"`
}

// Registries says how registries are spoken to, and which.
type Registries struct {
	// Insecure are "HOST[:PORT]" without TLS or with a certificate that cannot be
	// verified.
	Insecure []string `toml:"insecure"`
	// TLSVerify, if it is set, says for all registries whether they must have TLS and
	// a certificate that can be verified. It is a command's, not the file's.
	TLSVerify *bool `toml:"-"`
	// CertsDirs are directories in containerd's certs.d layout, in the order in which
	// they are looked at; nil is berth's, containerd's and Docker's.
	CertsDirs []string `toml:"certs_dirs"`
	// AuthFile has the node's credentials, in the form of Docker's config.json; "" is
	// the files of who runs berth.
	AuthFile string `toml:"auth_file"`
	// Unqualified says where images without a registry in their name come from: one
	// registry, a list of them to be tried in order, or "refuse". It is docker.io if it
	// is missing.
	Unqualified any `toml:"unqualified"`
	// Allow and Block are registries, repositories, or "*.DOMAIN".
	Allow []string `toml:"allow"`
	Block []string `toml:"block"`
}

// refuse is the value of Unqualified that forbids names without a registry.
const refuse = "refuse"

// Search reads Unqualified: the registries, nil for the default one, and whether
// names without a registry are refused.
func (r *Registries) Search() (registries []string, refused bool, err error) {
	switch v := r.Unqualified.(type) {
	case nil:
		return nil, false, nil
	case string:
		if v == refuse {
			return nil, true, nil
		}
		registries = []string{v}
	case []any:
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, false, fmt.Errorf("%v is not a string", e)
			}
			registries = append(registries, s)
		}
	default:
		return nil, false, fmt.Errorf("%v is neither a string nor a list of strings", v)
	}
	if len(registries) == 0 {
		return nil, false, errors.New(`an empty list; "refuse" is how to refuse such names`)
	}
	return registries, false, nil
}

// Policy is what this says of who may be pulled from.
func (c *Config) Policy() (policy.Policy, error) {
	r := &c.Registries
	p := policy.Policy{Allow: r.Allow, Block: r.Block, From: c.Path}
	var err error
	if p.Unqualified, p.RefuseUnqualified, err = r.Search(); err != nil {
		return p, fmt.Errorf("registries.unqualified: %w", err)
	}
	for _, registry := range p.Unqualified {
		if err := policy.CheckRegistry(registry); err != nil {
			return p, fmt.Errorf("registries.unqualified: %w", err)
		}
	}
	for _, list := range []struct {
		key      string
		patterns []string
	}{{"allow", p.Allow}, {"block", p.Block}} {
		for _, pattern := range list.patterns {
			if err := policy.CheckPattern(pattern); err != nil {
				return p, fmt.Errorf("registries.%s: %w", list.key, err)
			}
		}
	}
	return p, nil
}

// Trust says which images may be used.
type Trust struct {
	// Policy is the path of a signature policy (containers-policy.json(5)), which must
	// exist; "" is the first of PolicyPaths that does.
	Policy string `toml:"policy"`
}

// PolicyPaths are where a signature policy is, unless the configuration names one.
func PolicyPaths() []string {
	return []string{"/etc/berth/policy.json", "/etc/containers/policy.json"}
}

// LoadIfExists is Load, but a file that does not exist is an empty one.
func LoadIfExists(path string) (*Config, error) {
	c := &Config{}
	if err := c.add(path, path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return c, c.addDropIns(path)
}

// Load reads the file at path, and then those of the folder config.d beside it whose
// names end in ".toml", by name: what a later one sets replaces what an earlier one
// did, lists as a whole.
func Load(path string) (*Config, error) {
	c := &Config{}
	if err := c.add(path, path); err != nil {
		return nil, err
	}
	return c, c.addDropIns(path)
}

// add reads one file of the configuration at path.
func (c *Config) add(path, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	if err := c.merge(data); err != nil {
		return fmt.Errorf("configuration %q: %w: %w", file, err, containerizer.ErrInvalid)
	}
	c.Path = path
	c.Files = append(c.Files, file)
	return nil
}

func (c *Config) addDropIns(path string) error {
	files, err := dropIns(path)
	for _, file := range files {
		err = errors.Join(err, c.add(path, file))
	}
	return err
}

// dropIns are the files beside the one at path that add to it, by name.
func dropIns(path string) ([]string, error) {
	folder := filepath.Join(filepath.Dir(path), "config.d")
	found, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for drop-ins of the configuration: %w", err)
	}
	var files []string
	for _, f := range found {
		if filepath.Ext(f.Name()) == ".toml" {
			files = append(files, filepath.Join(folder, f.Name()))
		}
	}
	return files, nil
}

// merge sets what data sets, and checks all.
func (c *Config) merge(data []byte) error {
	d := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return explain(err)
	}
	return c.check()
}

// explain puts the line into the message.
func explain(err error) error {
	if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(strict.Errors) > 0 {
		e := strict.Errors[0]
		line, _ := e.Position()
		return fmt.Errorf("line %d: no key %q", line, dotted(e.Key()))
	}
	if decode, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := decode.Position()
		return fmt.Errorf("line %d, column %d: %w", line, column, err)
	}
	return err
}

func dotted(key toml.Key) string {
	var b bytes.Buffer
	for i, part := range key {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(part)
	}
	return b.String()
}

// check refuses values that no part of berth could use.
func (c *Config) check() error {
	if err := c.checkPaths(); err != nil {
		return err
	}
	if _, err := c.Policy(); err != nil {
		return err
	}
	switch c.Cgroup.Driver {
	case "", "cgroupfs", "systemd":
	default:
		return fmt.Errorf("cgroup.driver = %q: cgroupfs and systemd exist", c.Cgroup.Driver)
	}
	if s := c.Containers.Seccomp; s != "" && s != "default" && s != "unconfined" && s[0] != '/' {
		return fmt.Errorf("containers.seccomp = %q: default, unconfined or an absolute path", s)
	}
	if n := c.Containers.StopTimeoutSeconds; n != nil && *n < 0 {
		return fmt.Errorf("containers.stop_timeout_seconds = %d is negative", *n)
	}
	if c.Artifacts.StallTimeoutSeconds < 0 {
		return errors.New("artifacts.stall_timeout_seconds is not negative")
	}
	if c.Pull.Layers < 0 || c.Pull.Layers > maxPullLayers {
		return fmt.Errorf("pull.layers = %d: 0 to %d", c.Pull.Layers, maxPullLayers)
	}
	if _, _, _, err := c.Images.Pressure(); err != nil {
		return err
	}
	if _, _, err := c.Pressure.Thresholds(); err != nil {
		return err
	}
	if err := errors.Join(c.checkRuntimes(), c.CDI.check(), c.Daemon.check(), c.CRI.check(), c.Mesos.check(), c.TCP.check(), c.Tracing.check()); err != nil {
		return err
	}
	if _, _, err := c.NRI.Timeouts(); err != nil {
		return err
	}
	if c.Containers.PidsLimit < 0 || c.Log.MaxFiles < 0 {
		return errors.New("containers.pids_limit and log.max_files are not negative")
	}
	return nil
}

// checkPaths refuses paths that are not absolute.
func (c *Config) checkPaths() error {
	for _, p := range []struct{ key, path string }{
		{"root", c.Root},
		{"state", c.State},
		{"monitor", c.Monitor},
		{"network.conf_dir", c.Network.ConfDir},
		{"registries.auth_file", c.Registries.AuthFile},
		{"artifacts.hadoop", c.Artifacts.Hadoop},
		{"trust.policy", c.Trust.Policy},
		{"nri.socket_path", c.NRI.SocketPath},
		{"nri.plugin_path", c.NRI.PluginPath},
		{"nri.plugin_config_path", c.NRI.PluginConfigPath},
		{"client.tls_ca", c.Client.TLSCA},
		{"client.tls_cert", c.Client.TLSCert},
		{"client.tls_key", c.Client.TLSKey},
	} {
		if p.path != "" && p.path[0] != '/' {
			return fmt.Errorf("%s = %q is not an absolute path", p.key, p.path)
		}
	}
	for _, p := range c.Registries.CertsDirs {
		if !filepath.IsAbs(p) {
			return fmt.Errorf("registries.certs_dirs: %q is not an absolute path", p)
		}
	}
	for _, p := range c.Containers.HooksDir {
		if !filepath.IsAbs(p) {
			return fmt.Errorf("containers.hooks_dir: %q is not an absolute path", p)
		}
	}
	return nil
}
