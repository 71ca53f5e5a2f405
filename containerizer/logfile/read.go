package logfile

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"time"
)

// All is the Tail of a reader that wants every line.
const All = -1

// Options select what is read. The zero value reads nothing but what follows;
// say Tail: All for everything.
type Options struct {
	// Since and Until bound the time of lines; zero values do not.
	Since, Until time.Time
	// Tail is how many lines to begin with, counted from the end.
	Tail int
	// Ended, when set, makes the reader follow the log until it is closed.
	Ended <-chan struct{}
}

// Read calls emit for each record of the log at path, in order. It returns when
// all is read, when following has ended, when emit fails, or with ctx.
func Read(ctx context.Context, path string, o Options, emit func(Entry) error) error {
	r := reader{o: o, emit: emit}
	var watch *watcher
	if o.Ended != nil {
		var err error
		if watch, err = newWatcher(path); err != nil {
			return err
		}
		defer watch.close()
	}
	list, err := files(path)
	if err != nil {
		return err
	}
	defer func() { closeAll(list) }()
	selected := list
	if o.Tail >= 0 {
		if selected, err = seekTail(list, o.Tail); err != nil {
			return err
		}
	}
	for _, f := range selected {
		r.open(f)
		if err := r.drain(ctx); err != nil {
			return done(err)
		}
	}
	if watch == nil {
		return r.finish()
	}
	return done(r.follow(ctx, path, watch, func(f *os.File) { list = append(list, f) }))
}

// errDone ends reading without an error.
var errDone = errors.New("done")

func done(err error) error {
	if errors.Is(err, errDone) {
		return nil
	}
	return err
}

// reader reads one file after another.
type reader struct {
	o    Options
	emit func(Entry) error
	file *os.File
	buf  *bufio.Reader
	part []byte // of a record that is not complete yet
}

func (r *reader) open(f *os.File) {
	r.file = f
	if r.buf == nil {
		r.buf = bufio.NewReaderSize(f, tailBlock)
		return
	}
	r.buf.Reset(f)
}

// drain emits what the file holds now.
func (r *reader) drain(ctx context.Context) error {
	if r.file == nil {
		return nil
	}
	for {
		chunk, err := r.buf.ReadSlice('\n')
		r.part = append(r.part, chunk...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		record := trimNewline(r.part)
		r.part = r.part[:0]
		if err := r.one(record); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// finish emits a last record that lacks its newline.
func (r *reader) finish() error {
	if len(r.part) == 0 {
		return nil
	}
	record := r.part
	r.part = nil
	return done(r.one(record))
}

// one emits a record if it is selected. Damaged ones are shown as they stand.
func (r *reader) one(record []byte) error {
	e, err := parseEntry(record)
	if err != nil {
		return r.emit(Entry{Stream: "stdout", Content: record})
	}
	if e.Time.Before(r.o.Since) {
		return nil
	}
	if !r.o.Until.IsZero() && e.Time.After(r.o.Until) {
		return errDone
	}
	return r.emit(e)
}
