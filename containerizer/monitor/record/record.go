package record

// Names of the files.
const (
	ProcessFile = "process"
	ExitFile    = "exit"
)

// MaxSize is more than any record has.
const MaxSize = 256

const (
	processForm = "berth-process 1"
	exitForm    = "berth-exit 1"
)

// FormatError says that a file is no record.
type FormatError string

func (e FormatError) Error() string { return string(e) }

// Process is the content of the process file.
type Process struct {
	PID, StartTicks               uint64
	MonitorPID, MonitorStartTicks uint64
	// StartedAt is 0 until the execve was done.
	StartedAt uint64
}

// Append appends the encoded record to b.
func (p Process) Append(b []byte) []byte {
	return appendLine(b, processForm, p.PID, p.StartTicks, p.MonitorPID, p.MonitorStartTicks, p.StartedAt)
}

// ParseProcess is the inverse of Append.
func ParseProcess(b []byte) (p Process, err error) {
	err = parseLine(b, processForm, &p.PID, &p.StartTicks, &p.MonitorPID, &p.MonitorStartTicks, &p.StartedAt)
	return p, err
}

// Exit is the content of the exit file.
type Exit struct {
	// WaitStatus is the raw status of wait(2).
	WaitStatus uint64
	FinishedAt uint64
	// LogLost counts bytes that could not be written to the log.
	LogLost uint64
}

// Append appends the encoded record to b.
func (e Exit) Append(b []byte) []byte {
	return appendLine(b, exitForm, e.WaitStatus, e.FinishedAt, e.LogLost)
}

// ParseExit is the inverse of Append.
func ParseExit(b []byte) (e Exit, err error) {
	err = parseLine(b, exitForm, &e.WaitStatus, &e.FinishedAt, &e.LogLost)
	return e, err
}

// StartTicks reads field 22 of the content of /proc/PID/stat. The second field,
// the command, may hold anything but ends with the last ')'.
func StartTicks(stat []byte) (uint64, error) {
	i := len(stat) - 1
	for i >= 0 && stat[i] != ')' {
		i--
	}
	if i < 0 {
		return 0, FormatError("process status without a command")
	}
	rest := stat[i+1:]
	for range 19 { // fields 3 to 21
		_, rest = nextField(rest)
	}
	field, _ := nextField(rest)
	n, ok := number(field)
	if !ok {
		return 0, FormatError("process status without a start time")
	}
	return n, nil
}

func appendLine(b []byte, form string, numbers ...uint64) []byte {
	b = append(b, form...)
	for _, n := range numbers {
		b = append(b, ' ')
		b = appendNumber(b, n)
	}
	return append(b, '\n')
}

func appendNumber(b []byte, n uint64) []byte {
	var digits [20]byte
	i := len(digits)
	for {
		i--
		digits[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return append(b, digits[i:]...)
		}
	}
}

func parseLine(b []byte, form string, numbers ...*uint64) error {
	if len(b) > MaxSize || len(b) < len(form) || b[len(b)-1] != '\n' || string(b[:len(form)]) != form {
		return FormatError("no " + form + " record")
	}
	rest := b[len(form) : len(b)-1]
	for _, n := range numbers {
		var field []byte
		var ok bool
		field, rest = nextField(rest)
		if *n, ok = number(field); !ok {
			return FormatError(form + " record with a bad number")
		}
	}
	return nil
}

// nextField returns the text up to the next space, after one leading space.
func nextField(b []byte) (field, rest []byte) {
	if len(b) == 0 || b[0] != ' ' {
		return nil, nil
	}
	b = b[1:]
	for i, c := range b {
		if c == ' ' || c == '\n' {
			return b[:i], b[i:]
		}
	}
	return b, nil
}

func number(b []byte) (n uint64, ok bool) {
	if len(b) == 0 || len(b) > 20 {
		return 0, false
	}
	for _, c := range b {
		d := uint64(c - '0')
		if c < '0' || c > '9' || n > (1<<64-1-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}
