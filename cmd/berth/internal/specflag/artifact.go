package specflag

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/containerizer"
)

// DefaultSandbox is where a container finds its artifacts.
const DefaultSandbox = "/sandbox"

// sandboxVariable tells the process where that is.
const sandboxVariable = "BERTH_SANDBOX"

// artifactFlags say what is fetched before a container starts.
type artifactFlags struct {
	artifacts []string
	sandbox   string
}

func (f *artifactFlags) register(set *pflag.FlagSet) {
	list(set, &f.artifacts, "artifact", "", "fetch `URI[,OPTION...]` into the sandbox before the process starts:\ncache, executable, extract=false, output=PATH, sha256=HEX, user=UID[:GID], …")
	set.StringVar(&f.sandbox, "sandbox", DefaultSandbox, "`path` of the directory with the artifacts, in the container")
}

// apply adds the artifacts, the mount of their directory, and its path to the
// environment, where -e overrides it.
func (f *artifactFlags) apply(host Host, spec *containerizer.Spec) error {
	if len(f.artifacts) == 0 {
		if f.sandbox != DefaultSandbox {
			return invalidf("--sandbox says where artifacts are, and there is no --artifact")
		}
		return nil
	}
	for _, value := range f.artifacts {
		a, err := parseArtifact(host, value)
		if err != nil {
			return err
		}
		spec.Artifacts = append(spec.Artifacts, a)
	}
	path, err := destination("--sandbox", f.sandbox, f.sandbox)
	if err != nil {
		return err
	}
	spec.Mounts = append(spec.Mounts, containerizer.Mount{Type: containerizer.MountSandboxPath, Source: ".", Destination: path})
	spec.Process.Env = append([]string{sandboxVariable + "=" + path}, spec.Process.Env...)
	return nil
}

// parseArtifact parses --artifact, a line of CSV: the URI, then options "key=value" or
// "key".
func parseArtifact(host Host, value string) (containerizer.Artifact, error) {
	var a containerizer.Artifact
	refuse := func(format string, args ...any) (containerizer.Artifact, error) {
		return a, invalidf("--artifact %q: "+format, append([]any{value}, args...)...)
	}
	fields, err := csv.NewReader(strings.NewReader(value)).Read()
	if errors.Is(err, io.EOF) || err == nil && fields[0] == "" {
		return refuse("it has no URI")
	}
	if err != nil {
		return refuse("%v", err)
	}
	a.URI = fields[0]
	if !strings.Contains(a.URI, "://") { // a path is that of this process
		if a.URI, err = host.Abs(a.URI); err != nil {
			return refuse("%v", err)
		}
	}
	for _, f := range fields[1:] {
		if err := artifactField(&a, f); err != nil {
			return refuse("%v", err)
		}
	}
	if a.Executable && a.KeepArchive {
		return refuse("what is executable is not extracted: keep has no meaning")
	}
	if err := a.Validate(); err != nil {
		return a, fmt.Errorf("--artifact: %w", err)
	}
	return a, nil
}

func artifactField(a *containerizer.Artifact, field string) (err error) {
	key, v, assigned := strings.Cut(field, "=")
	on := true
	switch key {
	case "cache", "executable", "extract", "keep":
		if assigned {
			if on, err = strconv.ParseBool(v); err != nil {
				return errors.New(key + " is true or false")
			}
		}
	default:
		if v == "" {
			return errors.New("the option " + strconv.Quote(key) + " has no value, or there is no such option")
		}
	}
	switch key {
	case "cache":
		a.Cache = on
	case "executable":
		a.Executable = on
	case "extract":
		a.NoExtract = !on
	case "keep":
		a.KeepArchive = on
	case "output":
		a.Output = v
	case "sha256", "sha512":
		a.Checksum = digest.NewDigestFromEncoded(digest.Algorithm(key), strings.ToLower(v))
	case "user":
		a.User = v
	default:
		return errors.New("there is no option " + strconv.Quote(key))
	}
	return nil
}
