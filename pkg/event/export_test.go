package event

// ParseSlowly is what ParseInPlace asks where the scanner is in doubt.
var ParseSlowly = parse

// Scanned reports whether the scanner takes an event.
func Scanned(data []byte, maxBytes int) bool {
	_, ok := scan(data, maxBytes)
	return ok
}
