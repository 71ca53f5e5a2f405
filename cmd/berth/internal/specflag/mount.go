package specflag

import (
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-dev/berth/cmd/berth/internal/volume"
	"github.com/berth-dev/berth/containerizer"
)

// mountParser gathers the fields of one --mount.
type mountParser struct {
	host  Host
	value string
	kind  string
	m     containerizer.Mount
	bind  bindOptions
	tmpfs []string
}

// mountHasKey says whether a mount of this type has this key.
func mountHasKey(kind, key string) bool {
	common := []string{"type", "source", "src", "destination", "dst", "target", "readonly", "ro", "consistency"}
	own := map[string][]string{
		"bind": {
			"bind-propagation", "bind-nonrecursive", "bind-recursive", "bind-create-src", "relabel",
			"idmap", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "rw",
		},
		"volume": {"volume-nocopy", "volume-subpath", "subpath", "idmap", "rw"},
		"tmpfs":  {"tmpfs-size", "tmpfs-mode", "rw"},
		"image":  {"image-subpath", "subpath"},
	}
	return slices.Contains(common, key) || slices.Contains(own[kind], key)
}

// parseMount parses --mount, a line of CSV with "key=value" fields.
func parseMount(host Host, value string) (containerizer.Mount, error) {
	p := mountParser{host: host, value: value, kind: "volume", bind: bindOptions{recursive: true}}
	fields, err := csv.NewReader(strings.NewReader(value)).Read()
	if errors.Is(err, io.EOF) {
		return p.m, p.errorf("it is empty")
	}
	if err != nil {
		return p.m, p.errorf("%v", err)
	}
	for _, f := range fields {
		if key, kind, _ := strings.Cut(f, "="); key == "type" {
			p.kind = kind
		}
	}
	switch p.kind {
	case "bind", "volume", "tmpfs", "image":
		p.m.Type = containerizer.MountType(p.kind)
	default:
		return p.m, p.errorf("no type %q (bind, volume, tmpfs and image exist)", p.kind)
	}
	for _, f := range fields {
		key, v, _ := strings.Cut(f, "=")
		if !mountHasKey(p.kind, key) {
			return p.m, p.errorf("type %s has no %q", p.kind, key)
		}
		if err := p.field(f, key, v); err != nil {
			return p.m, err
		}
	}
	return p.finish()
}

func (p *mountParser) errorf(format string, args ...any) error {
	return invalidf("--mount %q: "+format, append([]any{p.value}, args...)...)
}

// field takes one field, "key=v" or "key".
func (p *mountParser) field(field, key, v string) (err error) {
	switch key {
	case "type", "consistency", "volume-nocopy":
	case "source", "src":
		p.m.Source = v
	case "destination", "dst", "target":
		p.m.Destination = v
	case "readonly", "ro":
		p.bind.readOnly, err = p.boolean(field)
	case "rw":
		var rw bool
		rw, err = p.boolean(field)
		p.bind.readOnly = !rw
	case "volume-subpath", "image-subpath", "subpath":
		p.m.SubPath = v
	case "bind-create-src":
		p.m.CreateSource, err = p.boolean(field)
	case "tmpfs-size":
		n, err := parseBytes(v)
		if err != nil || n < 0 {
			return p.errorf("tmpfs-size %q is not a size", v)
		}
		p.tmpfs = append(p.tmpfs, "size="+strconv.FormatInt(n, 10))
	case "tmpfs-mode":
		mode, err := strconv.ParseUint(v, 8, 32)
		if err != nil || mode > 0o7777 {
			return p.errorf("tmpfs-mode %q is not an octal mode", v)
		}
		p.tmpfs = append(p.tmpfs, "mode="+strconv.FormatUint(mode, 8))
	default:
		return p.bindField(field, key, v)
	}
	return err
}

// bindField takes a field of bind mounts.
func (p *mountParser) bindField(field, key, v string) error {
	switch key {
	case "bind-propagation":
		return p.add(v)
	case "bind-nonrecursive":
		non, err := p.boolean(field)
		p.bind.recursive = !non
		return err
	case "bind-recursive":
		switch v {
		case "enabled", "readonly":
		case "disabled":
			p.bind.recursive = false
		case "writable":
			p.bind.writableBelow = true
		default:
			return p.errorf("bind-recursive %q: enabled, disabled, writable or readonly", v)
		}
		return nil
	case "relabel":
		if v != "shared" && v != "private" {
			return p.errorf("relabel %q: shared or private", v)
		}
		p.m.Relabel = v
		return nil
	}
	if on, err := p.boolean(field); err != nil || !on {
		return err
	}
	return p.add(key)
}

func (p *mountParser) add(o string) error {
	if err := p.bind.add(&p.m, o); err != nil {
		return p.errorf("%v", err)
	}
	return nil
}

// boolean reads a field that may stand without a value.
func (p *mountParser) boolean(field string) (bool, error) {
	key, v, assigned := strings.Cut(field, "=")
	if !assigned {
		return true, nil
	}
	on, err := strconv.ParseBool(v)
	if err != nil {
		return false, p.errorf("%s %q: true or false", key, v)
	}
	return on, nil
}

// finish checks the whole and sets the options.
func (p *mountParser) finish() (containerizer.Mount, error) {
	m := &p.m
	var err error
	if m.Destination, err = destination("--mount", p.value, m.Destination); err != nil {
		return *m, err
	}
	if strings.HasPrefix(m.SubPath, "/") {
		return *m, p.errorf("the sub-path %q is not relative", m.SubPath)
	}
	switch m.Type {
	case containerizer.MountBind:
		if m.Source == "" {
			return *m, p.errorf("it has no source")
		}
		m.Options = p.bind.list()
		m.Source, err = p.host.Abs(m.Source)
	case containerizer.MountVolume:
		if m.Source != "" && !volume.ValidName(m.Source) {
			return *m, p.errorf("%q is not the name of a volume (letters, digits, '_', '.', '-')", m.Source)
		}
		m.Options = p.bind.list()
	case containerizer.MountTmpfs:
		if m.Source != "" {
			return *m, p.errorf("a tmpfs has no source")
		}
		m.Options = p.tmpfs
		if p.bind.readOnly {
			m.Options = append(m.Options, "ro")
		}
	case containerizer.MountImage:
		if m.Source == "" {
			return *m, p.errorf("it has no source: name an image")
		}
		m.Image, m.Source = &containerizer.ImageSource{Reference: m.Source, ReadOnly: true}, ""
	default: // parseMount lets no other type through
	}
	return *m, err
}

// parseTmpfs parses --tmpfs: "TARGET[:OPTIONS]", options as in tmpfs(5). They
// override berth's defaults, which are Docker's: nosuid, nodev and noexec.
func parseTmpfs(value string) (containerizer.Mount, error) {
	target, options, _ := strings.Cut(value, ":")
	m := containerizer.Mount{Type: containerizer.MountTmpfs}
	var err error
	if m.Destination, err = destination("--tmpfs", value, target); err != nil {
		return m, err
	}
	if options == "" {
		return m, nil
	}
	for o := range strings.SplitSeq(options, ",") {
		name, v, _ := strings.Cut(o, "=")
		switch name {
		case "exec", "suid", "dev", "noexec", "nosuid", "nodev", "ro", "rw", "noatime", "nodiratime",
			"relatime", "strictatime", "sync", "async", "dirsync":
			m.Options = append(m.Options, o)
		case "size":
			n, err := parseBytes(v)
			if err != nil && !strings.HasSuffix(v, "%") {
				return m, invalidf("--tmpfs %q: %v", value, err)
			}
			if err == nil {
				o = "size=" + strconv.FormatInt(n, 10)
			}
			m.Options = append(m.Options, o)
		case "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge":
			if v == "" {
				return m, invalidf("--tmpfs %q: option %q has no value", value, name)
			}
			m.Options = append(m.Options, o)
		default:
			return m, invalidf("--tmpfs %q: no option %q", value, name)
		}
	}
	return m, nil
}
