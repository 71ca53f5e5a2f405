package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/internal/rawfile"
)

// Names of files and folders; see the package comment.
const (
	containersFolder = "containers"
	childrenFolder   = "children"
	namesFolder      = "names"
	journalFolder    = "journal"
	owedFolder       = "owed"
	recordsFolder    = "records"
	sandboxesFolder  = "sandboxes"

	specFile       = "spec.json"
	statusFile     = "status.json"
	launchFile     = "launch.json"
	ledgerFile     = "ledger"
	cancelFile     = "cancel"     // asks the process that launches to give up
	signalsFile    = "signals"    // signals that were sent through the engine, a byte each
	limitationFile = "limitation" // the limit for which the container is being killed
	recordFile     = "record.json"
	logFile        = "container.log"
	sandboxLink    = "sandbox" // of Container.Dir, see containerizer.MountSandboxPath
	filesFolder    = "files"   // of a sandbox in ROOT
	fetchedFile    = "fetched" // of a sandbox in ROOT: the boot in which its artifacts came

	// Folders of containers that appear or disappear. No element of an id begins so.
	newPrefix  = ".new-"
	deadPrefix = ".dead-"
)

// below is the path of id under base: roots side by side, children nested.
func below(base string, id containerizer.ContainerID) string {
	return filepath.Join(base, strings.ReplaceAll(string(id), ".", "/"+childrenFolder+"/"))
}

// dir is Container.Dir of id.
func (e *Engine) dir(id containerizer.ContainerID) string {
	return below(filepath.Join(e.state, containersFolder), id)
}

// recordDir is the folder of id that survives a reboot.
func (e *Engine) recordDir(id containerizer.ContainerID) string {
	return below(filepath.Join(e.root, recordsFolder), id)
}

// sandboxDir is the folder of id's sandbox, where it has artifacts.
func (e *Engine) sandboxDir(id containerizer.ContainerID) string {
	return below(filepath.Join(e.root, sandboxesFolder), id)
}

// childIDs lists the children of parent, or the roots for "", that are on disk in
// the tree under base.
func childIDs(base string, parent containerizer.ContainerID) ([]containerizer.ContainerID, error) {
	folder := base
	if parent != "" {
		folder = filepath.Join(below(base, parent), childrenFolder)
	}
	found, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	ids := make([]containerizer.ContainerID, 0, len(found))
	for _, f := range found {
		id := containerizer.ContainerID(f.Name())
		if parent != "" {
			id = parent.Child(f.Name())
		}
		if _, err := containerizer.ParseContainerID(string(id)); err == nil && f.IsDir() {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// tree lists start and all below it, parents first; "" is everything.
func tree(base string, start containerizer.ContainerID) ([]containerizer.ContainerID, error) {
	var all []containerizer.ContainerID
	if start != "" {
		all = append(all, start)
	}
	children, err := childIDs(base, start)
	if err != nil {
		return nil, err
	}
	for _, c := range children {
		sub, err := tree(base, c)
		if err != nil {
			return nil, err
		}
		all = append(all, sub...)
	}
	return all, nil
}

// writeAside replaces path in one step. Nothing is synced: a power cut ends the
// containers too.
func writeAside(path string, b []byte) error {
	if err := rawfile.Replace(path, b); err != nil {
		return outOfSpace(err)
	}
	return nil
}

// outOfSpace gives err the class ErrResourceExhausted where that is its cause.
func outOfSpace(err error) error {
	for _, cause := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		if errors.Is(err, cause) {
			return fmt.Errorf("%w (%w)", err, containerizer.ErrResourceExhausted)
		}
	}
	return err
}
