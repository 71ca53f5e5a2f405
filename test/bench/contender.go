package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// contender is a way to run containers on this machine. Commands are argument
// vectors, so that what is measured is the process and nothing around it.
type contender interface {
	// Name as the table shows it.
	Name() string
	// Run is the command that launches a container, waits for it and removes it.
	Run(id string) []string
	// Start starts a container that sleeps; Stop ends and removes it.
	Start(ctx context.Context, id string) error
	Stop(ctx context.Context, id string) error
	// Exec is the command that runs "true" in a started container.
	Exec(id string) []string
}

// bare is no contender: the payload alone, the floor of every figure.
const bare = "no container"

// measure runs a command with nothing on its standard streams and returns how long
// it took and the processor time of its reaped process tree.
func measure(ctx context.Context, argv []string) (wall, cpu time.Duration, err error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	start := time.Now()
	err = cmd.Run()
	wall = time.Since(start)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", strings.Join(argv, " "), tell(ctx, argv, err))
	}
	return wall, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

// tell runs a failing command once more for its message.
func tell(ctx context.Context, argv []string, err error) error {
	out, again := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if again == nil {
		return fmt.Errorf("%w (and worked the second time)", err)
	}
	return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
}

// quietly runs a command whose output matters only when it fails. The output goes
// through a file: a container that stays behind may hold on to it.
func quietly(ctx context.Context, argv ...string) error {
	f, err := os.CreateTemp("", "berth-bench-output-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // a temporary file
	defer f.Close()           //nolint:errcheck // read by name
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(f.Name())
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(text)))
	}
	return nil
}

// versionOf returns the first line that a program says of its version.
func versionOf(ctx context.Context, argv ...string) string {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
	if err != nil {
		return "unknown version"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}
