package specflag

import (
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/containerizer"
)

// logFlags say where output goes.
type logFlags struct {
	driver  string
	options []string
}

func (f *logFlags) register(set *pflag.FlagSet) {
	set.StringVar(&f.driver, "log-driver", "", "`where` output is kept: cri (a file), none, or passthrough (the client's own descriptors)")
	list(set, &f.options, "log-opt", "", "log option: max-size=, max-file=, path= (`NAME=VALUE`)")
}

func (f *logFlags) apply(host Host, spec *containerizer.Spec) error {
	log := &spec.Log
	switch f.driver {
	case "", "cri", "k8s-file":
	case "none":
		log.Driver = containerizer.LogNone
	case "passthrough":
		log.Driver = containerizer.LogPassthrough
	default:
		return invalidf("--log-driver %q: cri, none and passthrough exist", f.driver)
	}
	for _, o := range f.options {
		if err := checkAssignment("--log-opt", o); err != nil {
			return err
		}
		if log.Driver != containerizer.LogFile {
			return invalidf("--log-opt %s: --log-driver %s keeps no file", o, f.driver)
		}
		key, value, _ := strings.Cut(o, "=")
		if err := logOption(host, log, key, value); err != nil {
			return err
		}
	}
	return nil
}

func logOption(host Host, log *containerizer.LogConfig, key, value string) error {
	switch key {
	case "max-size":
		n, err := parseBytes(value)
		if err != nil {
			return invalidf("--log-opt max-size: %v", err)
		}
		if n > 0 {
			log.MaxSizeBytes = n
		}
	case "max-file":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 {
			return invalidf("--log-opt max-file=%s is not a number from 1 up", value)
		}
		log.MaxFiles = n
	case "path":
		path, err := host.Abs(value)
		if err != nil {
			return err
		}
		log.Path = path
	default:
		return invalidf("--log-opt %q: max-size, max-file and path exist", key)
	}
	return nil
}
