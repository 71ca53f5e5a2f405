package specflag

import (
	"slices"
	"strings"

	"github.com/berth-dev/berth/cmd/berth/internal/volume"
	"github.com/berth-dev/berth/containerizer"
)

// parseVolume parses -v: "TARGET", "SOURCE:TARGET" or "SOURCE:TARGET:OPTIONS". A
// source with a leading '/' or '.' is a path, anything else a volume's name.
func parseVolume(host Host, value string) (containerizer.Mount, error) {
	var m containerizer.Mount
	parts := strings.Split(value, ":")
	var source, options string
	switch len(parts) {
	case 1:
		m.Destination = parts[0]
	case 2:
		source, m.Destination = parts[0], parts[1]
	case 3:
		source, m.Destination, options = parts[0], parts[1], parts[2]
	default:
		return m, invalidf("--volume %q has too many ':'; --mount takes any path", value)
	}
	var err error
	if m.Destination, err = destination("--volume", value, m.Destination); err != nil {
		return m, err
	}
	switch {
	case len(parts) == 1:
		m.Type = containerizer.MountVolume
	case source == "":
		return m, invalidf("--volume %q has no source before ':'", value)
	case source[0] == '/' || source[0] == '.':
		m.Type, m.CreateSource = containerizer.MountBind, true
		if m.Source, err = host.Abs(source); err != nil {
			return m, err
		}
	case volume.ValidName(source):
		m.Type, m.Source = containerizer.MountVolume, source
	default:
		return m, invalidf("--volume %q: %q is neither a path (with '/' or '.' first) nor the name of a volume (letters, digits, '_', '.', '-')", value, source)
	}
	return m, volumeOptions(&m, value, options)
}

// volumeOptions applies the comma separated options of -v.
func volumeOptions(m *containerizer.Mount, value, options string) error {
	b := bindOptions{recursive: true}
	if options != "" {
		for o := range strings.SplitSeq(options, ",") {
			if err := b.add(m, o); err != nil {
				return invalidf("--volume %q: %v", value, err)
			}
		}
	}
	m.Options = b.list()
	return nil
}

// bindOptions gathers what a bind mount is to be.
type bindOptions struct {
	recursive, readOnly, writableBelow bool
	propagation                        string
	flags                              []string
	mode                               string // the ro or rw that was given
}

// add takes one option of -v.
func (b *bindOptions) add(m *containerizer.Mount, o string) error {
	switch o {
	case "ro", "rw":
		if b.mode != "" && b.mode != o {
			return optionError("ro and rw exclude each other")
		}
		b.mode, b.readOnly = o, o == "ro"
	case "z":
		m.Relabel = "shared"
	case "Z":
		m.Relabel = "private"
	case "shared", "rshared", "slave", "rslave", "private", "rprivate":
		if b.propagation != "" && b.propagation != o {
			return optionError("two propagation modes, " + b.propagation + " and " + o)
		}
		b.propagation = o
	case "exec", "noexec", "suid", "nosuid", "dev", "nodev", "idmap":
		b.flags = append(b.flags, o)
	case "rbind":
		b.recursive = true
	case "bind":
		b.recursive = false
	case "nocopy", "cached", "delegated", "consistent", "default":
		// These describe what happens anyway: volumes are never filled from the
		// image, and files are the host's own.
	case "copy":
		return optionError("volumes are not filled from the image")
	case "U":
		return optionError("option U would change the owner of files on the host; idmap maps it instead")
	case "O":
		return optionError("option O (overlay) is not supported")
	default:
		return optionError("no option \"" + o + "\"")
	}
	return nil
}

// list is the options in mount(8)'s words. A read-only bind is so for everything
// mounted below it too, as Docker does since version 25.
func (b *bindOptions) list() []string {
	bind, ro := "rbind", "rro"
	if !b.recursive {
		bind, ro = "bind", "ro"
	}
	if b.writableBelow {
		ro = "ro"
	}
	propagation := b.propagation
	if propagation == "" {
		propagation = "rprivate"
	}
	out := append([]string{bind, propagation}, slices.Compact(b.flags)...)
	if b.readOnly {
		out = append(out, ro)
	}
	return out
}

type optionError string

func (e optionError) Error() string { return string(e) }
