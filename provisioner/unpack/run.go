package unpack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

const (
	copySize = 256 << 10
	pipeSize = 1 << 20
	// grace is how long the child may take for its reply once its input has ended
	// because of an error here.
	grace = 5 * time.Second
)

// Run unpacks the compressed tar stream r into the empty directory target, by a
// child process: see Start and Unpack.
func Run(ctx context.Context, command []string, target *os.File, r io.Reader, limits Limits) (*Result, error) {
	c, err := Start(ctx, command, target, limits)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Unpack(ctx, r)
}

// Child is a child process that waits for the stream of one layer.
type Child struct {
	*child
	target *os.File
	ended  bool
}

// Start starts a child that will unpack into the empty directory target, which was
// opened by its absolute path: command is run with one argument appended, and must
// call apply.ChildMain with it. Who starts it before asking for the stream does not
// wait for both in turn. The caller closes it.
func Start(ctx context.Context, command []string, target *os.File, limits Limits) (*Child, error) {
	if len(command) == 0 {
		return nil, fmt.Errorf("no command for unpacking is configured: %w", containerizer.ErrUnsupported)
	}
	conf, err := json.Marshal(limits)
	if err != nil {
		return nil, fmt.Errorf("encode the limits: %w", err)
	}
	c, err := start(ctx, append(command[1:len(command):len(command)], string(conf)), command[0], target)
	if err != nil {
		return nil, fmt.Errorf("start unpacking by %q: %w", command[0], err)
	}
	return &Child{child: c, target: target}, nil
}

// Unpack feeds the child the compressed tar stream r, and waits for it. The error is
// r's, if r failed, else the child's. Trusted attributes of overlayfs are set in the
// target when Unpack returns. It is called once.
func (c *Child) Unpack(ctx context.Context, r io.Reader) (*Result, error) {
	copyErr := c.feed(r)
	res, err := c.finish()
	c.ended = true
	if copyErr != nil {
		return nil, copyErr
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	if err := mark(c.target, res); err != nil {
		return nil, err
	}
	return res, nil
}

// Close ends a child that was not asked to unpack.
func (c *Child) Close() {
	if c.ended {
		return
	}
	c.ended = true
	_ = c.cmd.Process.Kill() // there was nothing for it to do
	_ = c.stdin.Close()
	_, _ = c.finish() // as before
}

// child is a running child process.
type child struct {
	cmd    *exec.Cmd
	stdin  *os.File
	reply  chan []byte
	stderr bytes.Buffer
}

var errNoResult = errors.New("the child says nothing")

func start(ctx context.Context, args []string, name string, target *os.File) (_ *child, err error) {
	in, stdin, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	resultR, result, err := os.Pipe()
	if err != nil {
		_ = stdin.Close()
		return nil, err
	}
	defer func() { _ = result.Close() }()
	setPipeSize(stdin)

	c := &child{stdin: stdin}
	c.cmd = exec.CommandContext(ctx, name, args...)
	c.cmd.Stdin = in
	c.prepare(target, result)
	if err := startCoarse(c.cmd); err != nil {
		_ = stdin.Close()
		_ = resultR.Close()
		return nil, err
	}
	c.listen(resultR)
	return c, nil
}

// prepare confines the child as far as can be done from outside.
func (c *child) prepare(target, result *os.File) {
	c.cmd.Stderr = &c.stderr
	c.cmd.ExtraFiles = []*os.File{target, result} // TargetFD, ResultFD
	c.cmd.Env = []string{"PATH=/nonexistent"}
	// By name: a descriptor from outside the child's mount namespace cannot be
	// mounted in it. The child compares the two.
	c.cmd.Dir = target.Name()
	c.cmd.WaitDelay = grace
	c.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Setsid:     true, // a terminal's interrupt is ours to act on
		// When this process dies, the child's input ends, and with it the child.
	}
}

// listen reads the child's result from r, which it closes.
func (c *child) listen(r *os.File) {
	c.reply = make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(r, maxResult)) // what is cut off does not parse
		_ = r.Close()
		c.reply <- b
	}()
}

// feed copies r to the child. A child that has ended is no error here: it says
// why in its reply. The stream is then read on to its end by nobody.
func (c *child) feed(r io.Reader) error {
	defer func() { _ = c.stdin.Close() }()
	buf := make([]byte, copySize)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, werr := c.stdin.Write(buf[:n]); werr != nil {
				return nil // see above
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			_ = c.cmd.Process.Kill() // what it has is not wanted any more
			return err
		}
	}
}

func (c *child) finish() (*Result, error) {
	b := <-c.reply
	werr := c.cmd.Wait()
	var reply Reply
	if err := json.Unmarshal(b, &reply); err != nil || (reply.Result == nil && reply.Error == "") {
		said := bytes.TrimSpace(c.stderr.Bytes())
		if bytes.Contains(said, []byte("out of memory")) { // the Go runtime's words, with a stack behind them
			return nil, fmt.Errorf("unpacking takes more memory than its limit allows: %w", containerizer.ErrResourceExhausted)
		}
		return nil, fmt.Errorf("unpacking ended without a result: %s: %w", said, errors.Join(errNoResult, werr))
	}
	if err := reply.Err(); err != nil {
		return nil, err
	}
	return reply.Result, nil
}
