package eventlog

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// Position is a place in the log: what resume hands back and each event
// carries. Positions of one partition and epoch grow with the log, also as text.
type Position struct {
	Partition event.Partition
	Epoch     Epoch
	Sequence  uint64
}

// String writes the position in the form that ParsePosition reads.
func (p Position) String() string {
	return fmt.Sprintf("%04d.%s.%016x", p.Partition, p.Epoch, p.Sequence)
}

// ErrPosition is returned for text that is not a position.
var ErrPosition = errors.New("not a position")

var positionForm = regexp.MustCompile(`^([0-9]{4})\.([0-9a-f]{16}\.[0-9a-f]{8})\.([0-9a-f]{16})$`)

// ParsePosition reads what String wrote; any other text is ErrPosition.
func ParsePosition(text string) (Position, error) {
	m := positionForm.FindStringSubmatch(text)
	if m == nil {
		return Position{}, ErrPosition
	}
	partition, err := strconv.Atoi(m[1])
	if err != nil {
		return Position{}, ErrPosition
	}
	sequence, err := strconv.ParseUint(m[3], 16, 64)
	if err != nil {
		return Position{}, ErrPosition
	}
	return Position{Partition: event.Partition(partition), Epoch: Epoch(m[2]), Sequence: sequence}, nil
}
