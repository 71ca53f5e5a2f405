package logfile

import (
	"bytes"
	"fmt"
	"time"
)

// Entry is one record of a log. A line that was longer than the writer's buffer
// is in several records; all but the last are Partial.
type Entry struct {
	Time    time.Time
	Stream  string // "stdout" or "stderr"
	Partial bool
	Content []byte // valid until the next one is read
}

// parseEntry parses a record without its newline.
func parseEntry(line []byte) (Entry, error) {
	stamp, rest, ok1 := bytes.Cut(line, []byte(" "))
	stream, rest, ok2 := bytes.Cut(rest, []byte(" "))
	tags, content, ok3 := bytes.Cut(rest, []byte(" "))
	if !ok3 { // an empty line may lack the last blank
		tags, content = rest, nil
	}
	if !ok1 || !ok2 {
		return Entry{}, fmt.Errorf("%.80q is not a log record", line)
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return Entry{}, fmt.Errorf("%.80q: the time of a log record is not in RFC 3339", line)
	}
	tag, _, _ := bytes.Cut(tags, []byte(":"))
	return Entry{Time: at, Stream: string(stream), Partial: string(tag) == "P", Content: content}, nil
}

// isFull says whether a record ends a line; damaged ones do.
func isFull(record []byte) bool {
	e, err := parseEntry(record)
	return err != nil || !e.Partial
}
