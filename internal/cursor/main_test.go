package cursor

import (
	"testing"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
)

func TestMain(m *testing.M) { testserver.Main(m) }
