package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/internal/leanjson"
	"github.com/berth-dev/berth/containerizer/internal/rawfile"
)

// recordVersion is the form of the files; a newer one is refused.
const recordVersion = 1

// request is spec.json: what was asked for. It is written once.
type request struct {
	Version   int                       `json:"version"`
	ID        containerizer.ContainerID `json:"id"`
	CreatedAt time.Time                 `json:"createdAt"`
	Boot      string                    `json:"boot"`
	// Hash tells requests apart: a second Launch of the same joins the first.
	Hash string          `json:"hash"`
	Spec json.RawMessage `json:"spec"`
}

// status is status.json: what became of the request. Without the file the
// container is being prepared for the first time.
type status struct {
	Version        int                           `json:"version"`
	State          containerizer.State           `json:"state"`
	Boot           string                        `json:"boot"`
	PID            int                           `json:"pid,omitempty"`
	MonitorPID     int                           `json:"monitorPID,omitempty"`
	StartedAt      time.Time                     `json:"startedAt,omitzero"`
	Termination    *containerizer.Termination    `json:"termination,omitempty"`
	ImageManifest  digest.Digest                 `json:"imageManifest,omitempty"`
	ImageReference string                        `json:"imageReference,omitempty"`
	Rootfs         *containerizer.Rootfs         `json:"rootfs,omitempty"`
	LogPath        string                        `json:"logPath,omitempty"`
	Networks       []containerizer.NetworkStatus `json:"networks,omitempty"`
	Ports          []containerizer.PortMapping   `json:"ports,omitempty"`
	RestartCount   int                           `json:"restartCount,omitempty"`
	Owed           []string                      `json:"owed,omitempty"`

	// Names are valid for the container; two while it is renamed. nil: the spec's.
	Names []string `json:"names,omitempty"`
	// Resources replace the spec's after an update.
	Resources *containerizer.Resources `json:"resources,omitempty"`
	// Process and StopSignal are the effective ones, merged with the image's.
	Process    *containerizer.Process `json:"process,omitempty"`
	StopSignal string                 `json:"stopSignal,omitempty"`
	// Released says that an exited container holds nothing but its files.
	Released bool `json:"released,omitempty"`
}

// launchRecord is launch.json: what the running process was made from, for exec
// sessions, children and updates.
type launchRecord struct {
	Spec        *containerizer.Spec       `json:"spec"`
	ImageConfig *v1.ImageConfig           `json:"imageConfig,omitempty"`
	Info        *containerizer.LaunchInfo `json:"info"`
}

// persistent is record.json: what survives a reboot of the node.
type persistent struct {
	Request request `json:"request"`
	Status  status  `json:"status"`
}

// loaded is a container as read from disk.
type loaded struct {
	id  containerizer.ContainerID
	dir string
	req request
	// spec is the request's, with the updates of status applied.
	spec *containerizer.Spec
	st   status
	// fresh says that the operation at work saw the container end and has not told
	// anybody yet.
	fresh bool
}

// newRequest encodes a request for spec.
func newRequest(id containerizer.ContainerID, spec *containerizer.Spec) (*request, error) {
	b, err := leanjson.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encode the spec of container %q: %w: %w", id, err, containerizer.ErrInvalid)
	}
	sum := sha256.Sum256(b)
	return &request{Version: recordVersion, ID: id, Hash: hex.EncodeToString(sum[:16]), Spec: b}, nil
}

// load reads container id without lock.
func (e *Engine) load(id containerizer.ContainerID) (*loaded, error) {
	l, err := e.read(id)
	if err != nil {
		return nil, err
	}
	if l.spec != nil {
		l.applyStatus()
		return l, nil
	}
	return l, l.decode()
}

// read is load without the spec, whose many types take longer to prepare for than
// the file takes to read.
func (e *Engine) read(id containerizer.ContainerID) (*loaded, error) {
	l := &loaded{id: id, dir: e.dir(id)}
	if _, err := containerizer.ParseContainerID(string(id)); err != nil {
		return nil, err
	}
	if err := e.readRequest(l); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, e.missing(l)
		}
		return nil, fmt.Errorf("container %q: %w", id, err)
	}
	if l.req.Version > recordVersion {
		return nil, fmt.Errorf("container %q was recorded by a newer berth (form %d, known is %d): %w", id, l.req.Version, recordVersion, containerizer.ErrUnsupported)
	}
	err := e.readStatus(l)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		l.st = status{Version: recordVersion, State: containerizer.StatePreparing, Boot: l.req.Boot}
	case err != nil:
		return nil, fmt.Errorf("container %q: %w", id, err)
	}
	return l, nil
}

// readRequest fills l.req, and l.spec if it is known.
func (e *Engine) readRequest(l *loaded) error {
	path := filepath.Join(l.dir, specFile)
	raw, err := rawfile.Read(path)
	if err != nil {
		return err
	}
	if m, ok := e.requests.get(l.id, raw); ok {
		l.req, l.spec = m.req, &m.spec
		return nil
	}
	return decodeJSON(path, raw, &l.req)
}

func (e *Engine) readStatus(l *loaded) error {
	path := filepath.Join(l.dir, statusFile)
	raw, err := rawfile.Read(path)
	if err != nil {
		return err
	}
	if st, ok := e.statuses.get(l.id, raw); ok {
		l.st = st
		return nil
	}
	return decodeJSON(path, raw, &l.st)
}

// decode fills l.spec.
func (l *loaded) decode() error {
	l.spec = &containerizer.Spec{}
	if err := json.Unmarshal(l.req.Spec, l.spec); err != nil {
		return fmt.Errorf("container %q: decode its spec: %w: %w", l.id, err, containerizer.ErrDataCorrupt)
	}
	l.applyStatus()
	return nil
}

// missing tells a container that does not exist from one whose record is lost.
func (*Engine) missing(l *loaded) error {
	if _, err := os.Stat(filepath.Join(l.dir, ledgerFile)); err == nil {
		return fmt.Errorf("container %q: its %s is missing: %w", l.id, specFile, containerizer.ErrDataCorrupt)
	}
	return fmt.Errorf("container %q: %w", l.id, containerizer.ErrNotFound)
}

// applyStatus puts into l.spec what changed since the request.
func (l *loaded) applyStatus() {
	if l.st.Process != nil {
		l.spec.Process = *l.st.Process
	}
	if l.st.StopSignal != "" {
		l.spec.StopSignal = l.st.StopSignal
	}
	if l.st.Resources != nil {
		l.spec.Resources = *l.st.Resources
	}
	if n := len(l.st.Names); n > 0 {
		l.spec.Name = l.st.Names[n-1]
	}
	if l.st.LogPath != "" {
		l.spec.Log.Path = l.st.LogPath
	}
}

// names are the names that are l's.
func (l *loaded) names() []string {
	names := l.st.Names
	switch {
	case names != nil:
	case l.spec != nil:
		names = []string{l.spec.Name}
	default:
		var spec struct {
			Name string `json:"name"`
		}
		_ = json.Unmarshal(l.req.Spec, &spec) // a damaged one has no name
		names = []string{spec.Name}
	}
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == "" })
}

// survives says whether the container is to be there after a reboot.
func (l *loaded) survives() bool { return l.spec != nil && !l.spec.AutoRemove }

// become moves l to state next. It is the only place where a state changes.
//
// Preconditions: the caller holds the container's lock and saves l afterwards.
func (l *loaded) become(next containerizer.State) error {
	if !l.st.State.CanBecome(next) {
		return fmt.Errorf("container %q is %s and cannot become %s: %w", l.id, l.st.State, next, containerizer.ErrFailedPrecondition)
	}
	l.st.State = next
	if !next.Alive() {
		l.st.PID, l.st.MonitorPID = 0, 0
	}
	return nil
}

// save writes l's status.
//
// Preconditions: the caller holds the container's lock.
func (e *Engine) save(l *loaded) error {
	l.st.Version, l.st.Boot = recordVersion, e.bootID
	if l.st.LogPath == "" && l.spec != nil {
		l.st.LogPath = l.spec.Log.Path
	}
	path := filepath.Join(l.dir, statusFile)
	b, err := leanjson.Marshal(&l.st)
	if err == nil {
		err = writeAside(path, b)
	}
	if err != nil {
		return fmt.Errorf("record the state of container %q: %w", l.id, err)
	}
	e.statuses.put(l.id, b, l.st)
	return nil
}

// saveAll writes l's status, and its copy that survives a reboot where there is one.
//
// Preconditions: the caller holds the container's lock.
func (e *Engine) saveAll(l *loaded) error {
	if err := e.save(l); err != nil || !l.survives() {
		return err
	}
	path := filepath.Join(e.recordDir(l.id), recordFile)
	if err := writeJSON(path, &persistent{Request: l.req, Status: l.st}); err != nil {
		return fmt.Errorf("record the state of container %q: %w", l.id, err)
	}
	return nil
}

func readJSON(path string, v any) error {
	b, err := rawfile.Read(path)
	if err != nil {
		return err
	}
	return decodeJSON(path, b, v)
}

func decodeJSON(path string, b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("decode %q: %w: %w", path, err, containerizer.ErrDataCorrupt)
	}
	return nil
}

func writeJSON(path string, v any) error {
	b, err := leanjson.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %q: %w", path, err)
	}
	return writeAside(path, b)
}
