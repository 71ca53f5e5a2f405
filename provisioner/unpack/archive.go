package unpack

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"

	"github.com/berth-dev/berth/containerizer"
)

// ArchiveMode is the child's first argument when it extracts an archive that is no
// layer. The second is the containerizer.Extraction.
const ArchiveMode = "archive"

// Extractor extracts archives in a child process that is confined as that of Run.
type Extractor struct{ command []string }

var _ containerizer.ArchiveExtractor = (*Extractor)(nil)

// NewExtractor returns an extractor. command is as for Run.
func NewExtractor(command []string) *Extractor { return &Extractor{command} }

// Extract implements [containerizer.ArchiveExtractor]. The child reads the file
// itself: formats with their table at the end need to go back and forth.
func (e *Extractor) Extract(ctx context.Context, archive, target *os.File, x containerizer.Extraction) (int64, error) {
	if len(e.command) == 0 {
		return 0, fmt.Errorf("no command for unpacking is configured: %w", containerizer.ErrUnsupported)
	}
	conf, err := json.Marshal(x)
	if err != nil {
		return 0, fmt.Errorf("encode the extraction: %w", err)
	}
	// Opened anew: the child has its own position, and cannot write.
	in, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", archive.Fd()))
	if err != nil {
		return 0, fmt.Errorf("open the archive: %w", err)
	}
	defer func() { _ = in.Close() }() // read only
	resultR, result, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	c := &child{}
	c.cmd = exec.CommandContext(ctx, e.command[0], append(e.command[1:len(e.command):len(e.command)], ArchiveMode, string(conf))...)
	c.cmd.Stdin = in
	c.prepare(target, result)
	// When this process dies the child goes on to the end of the file, which is bounded,
	// in a directory that nobody looks at. A signal at the death of the parent would come
	// at that of the thread that started it (prctl(2), PR_SET_PDEATHSIG).
	err = c.cmd.Start()
	_ = result.Close() // the child's
	if err != nil {
		_ = resultR.Close()
		return 0, fmt.Errorf("start unpacking by %q: %w", e.command[0], err)
	}
	c.listen(resultR)
	res, err := c.finish()
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if err != nil {
		return 0, err
	}
	return res.Entries, nil
}
