package apparmor_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/berth-dev/berth/isolators/security/apparmor"
)

// TestRealParserTakesProfile compiles the profile with the parser of the
// distribution, without loading it: the kernel need not have AppArmor.
func TestRealParserTakesProfile(t *testing.T) {
	parser, err := exec.LookPath("apparmor_parser")
	if err != nil {
		t.Skip("apparmor_parser is not installed")
	}
	for name, text := range map[string]string{
		"plain":              apparmor.ProfileText("berth-default", "unconfined"),
		"names to be quoted": apparmor.ProfileText(`a "b" c`, "/usr/bin/berth//child"),
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), parser, "--skip-kernel-load", "--skip-cache", "--stdout")
			cmd.Stdin = strings.NewReader(text)
			var stderr strings.Builder
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil || len(out) < 1000 {
				t.Errorf("%d bytes of policy, %v: %s\n%s", len(out), err, stderr.String(), text)
			}
		})
	}
}
