package presence

import (
	"testing"

	"github.com/neolith/daemon-gateway/internal/testserver"
)

func TestMain(m *testing.M) { testserver.Main(m) }
