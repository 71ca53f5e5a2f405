package s3

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// settings of a request.
type settings struct {
	credentials
	region   string
	endpoint *url.URL // nil is Amazon's
}

// maxFile bounds what is read of a shared file.
const maxFile = 1 << 20

// load reads environment and shared files.
func (s *Scheme) load() (*settings, error) {
	env := s.o.Getenv
	profile := first(env("AWS_PROFILE"), "default")
	home := env("HOME")
	config, err := readProfile(first(env("AWS_CONFIG_FILE"), inHome(home, "config")), profile, "profile ")
	if err != nil {
		return nil, err
	}
	keys, err := readProfile(first(env("AWS_SHARED_CREDENTIALS_FILE"), inHome(home, "credentials")), profile, "")
	if err != nil {
		return nil, err
	}
	set := &settings{
		credentials: credentials{env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY"), env("AWS_SESSION_TOKEN")},
		region:      first(env("AWS_REGION"), env("AWS_DEFAULT_REGION"), config["region"], "us-east-1"),
	}
	for _, file := range []map[string]string{keys, config} {
		if set.id == "" && file["aws_access_key_id"] != "" {
			set.credentials = credentials{file["aws_access_key_id"], file["aws_secret_access_key"], file["aws_session_token"]}
		}
	}
	if set.id == "" && env("AWS_PROFILE") != "" && len(keys) == 0 && len(config) == 0 {
		return nil, fmt.Errorf("the profile %q of AWS_PROFILE is in no file: %w", profile, containerizer.ErrInvalid)
	}
	if (set.id == "") != (set.secret == "") {
		return nil, fmt.Errorf("the S3 credentials are incomplete: key id and secret go together: %w", containerizer.ErrInvalid)
	}
	if strings.ContainsFunc(set.region, func(r rune) bool { return r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9') }) {
		return nil, fmt.Errorf("the S3 region %.50q is no name: %w", set.region, containerizer.ErrInvalid)
	}
	if e := first(env("AWS_ENDPOINT_URL_S3"), env("AWS_ENDPOINT_URL"), config["endpoint_url"]); e != "" {
		u, err := url.Parse(e)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil {
			return nil, fmt.Errorf("the S3 endpoint is no URL of a server: %w", containerizer.ErrInvalid)
		}
		set.endpoint = u
	}
	return set, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func inHome(home, name string) string {
	if home == "" {
		return ""
	}
	return filepath.Join(home, ".aws", name)
}

// readProfile reads one profile of a shared file; a missing file is empty. Errors
// show nothing of the content.
func readProfile(path, profile, prefix string) (map[string]string, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("S3 credentials: %w: %w", err, containerizer.ErrPermission)
	}
	defer func() { _ = f.Close() }() // read only
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("S3 credentials: %w", err)
	}
	return parseProfile(string(b), profile, prefix), nil
}

// parseProfile reads the lines "name = value" of the section [profile], or
// [PREFIXprofile] unless it is the default.
func parseProfile(text, profile, prefix string) map[string]string {
	values := map[string]string{}
	in := false
	for line := range strings.Lines(text) {
		nested := strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")
		line = strings.TrimSpace(line)
		switch {
		case line == "", line[0] == '#', line[0] == ';':
		case line[0] == '[':
			name := strings.TrimSpace(strings.Trim(line, "[]"))
			in = name == profile && (prefix == "" || profile == "default") || prefix != "" && name == prefix+profile
		case in && !nested:
			if k, v, ok := strings.Cut(line, "="); ok {
				values[strings.TrimSpace(k)] = strings.TrimSpace(v)
			}
		}
	}
	return values
}
