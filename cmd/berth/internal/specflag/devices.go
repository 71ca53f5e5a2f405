package specflag

import (
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/containerizer"
)

// deviceFlags give access to devices.
type deviceFlags struct {
	devices []string
	rules   []string
}

func (f *deviceFlags) register(set *pflag.FlagSet) {
	list(set, &f.devices, "device", "", "give a device, or those of a directory (`HOST[:CONTAINER][:rwm]`)")
	list(set, &f.rules, "device-cgroup-rule", "", "allow devices by number (`TYPE MAJOR:MINOR ACCESS`)")
}

func (f *deviceFlags) apply(_ Host, spec *containerizer.Spec) error {
	for _, v := range f.devices {
		if isCDIName(v) {
			spec.CDIDevices = append(spec.CDIDevices, v)
			continue
		}
		d, err := parseDevice(v)
		if err != nil {
			return err
		}
		spec.Devices = append(spec.Devices, d)
	}
	for _, v := range f.rules {
		r, err := parseDeviceRule(v)
		if err != nil {
			return err
		}
		spec.Resources.Linux.Devices = append(spec.Resources.Linux.Devices, r)
	}
	return nil
}

// isCDIName says whether v is a qualified device name of the Container Device
// Interface: VENDOR/CLASS=NAME.
func isCDIName(v string) bool {
	kind, name, named := strings.Cut(v, "=")
	vendor, class, classed := strings.Cut(kind, "/")
	return named && classed && isWord(vendor, "_.-") && isWord(class, "_-") && isWord(name, "_.:-") &&
		!isDigit(vendor[0]) && !isDigit(class[0])
}

// isWord says whether s is of letters, digits and, but for its ends, others.
func isWord(s, others string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		inner := i > 0 && i < len(s)-1 && strings.IndexByte(others, c) >= 0
		if !alnum && !inner {
			return false
		}
	}
	return s != ""
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// parseDevice parses "HOST[:CONTAINER][:PERMISSIONS]".
func parseDevice(v string) (containerizer.Device, error) {
	var d containerizer.Device
	parts := strings.Split(v, ":")
	d.HostPath = parts[0]
	switch len(parts) {
	case 1:
	case 2:
		if isPermissions(parts[1]) {
			d.Permissions = parts[1]
		} else {
			d.ContainerPath = parts[1]
		}
	case 3:
		if !isPermissions(parts[2]) {
			return d, invalidf("--device %q: permissions %q are not letters of \"rwm\"", v, parts[2])
		}
		d.ContainerPath, d.Permissions = parts[1], parts[2]
	default:
		return d, invalidf("--device %q has too many ':'", v)
	}
	for _, p := range []string{d.HostPath, d.ContainerPath} {
		if p != "" && p[0] != '/' || strings.ContainsRune(p, 0) {
			return d, invalidf("--device %q: %q is not an absolute path", v, p)
		}
	}
	if d.HostPath == "" {
		return d, invalidf("--device %q names no device", v)
	}
	return d, nil
}

func isPermissions(s string) bool {
	if s == "" || len(s) > 3 {
		return false
	}
	for i, r := range s {
		if !strings.ContainsRune("rwm", r) || strings.ContainsRune(s[:i], r) {
			return false
		}
	}
	return true
}

// parseDeviceRule parses "c 1:3 rwm" (the kernel's cgroup-v1/devices.rst).
func parseDeviceRule(v string) (specs.LinuxDeviceCgroup, error) {
	bad := func(why string) (specs.LinuxDeviceCgroup, error) {
		return specs.LinuxDeviceCgroup{}, invalidf("--device-cgroup-rule %q: %s", v, why)
	}
	fields := strings.Fields(v)
	if len(fields) != 3 {
		return bad("it is not TYPE MAJOR:MINOR ACCESS, such as \"c 42:* rwm\"")
	}
	if fields[0] != "a" && fields[0] != "b" && fields[0] != "c" {
		return bad("the type is a, b or c")
	}
	if !isPermissions(fields[2]) {
		return bad("the access is letters of \"rwm\"")
	}
	majorText, minorText, ok := strings.Cut(fields[1], ":")
	major, errMajor := deviceNumber(majorText)
	minor, errMinor := deviceNumber(minorText)
	if !ok || errMajor != nil || errMinor != nil {
		return bad("the device is two numbers or '*' with a ':' between")
	}
	return specs.LinuxDeviceCgroup{Allow: true, Type: fields[0], Major: major, Minor: minor, Access: fields[2]}, nil
}

// deviceNumber is nil for '*'.
func deviceNumber(s string) (*int64, error) {
	if s == "*" {
		return nil, nil
	}
	u, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return nil, err
	}
	n := int64(u)
	return &n, nil
}
