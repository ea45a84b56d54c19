//go:build !unix

package artifact

import (
	"io"
	"os"
)

// mapFile reads the first size bytes of a file.
func mapFile(file *os.File, size int) ([]byte, func([]byte), error) {
	data := make([]byte, size)
	_, err := io.ReadFull(io.NewSectionReader(file, 0, int64(size)), data)
	return data, nil, err
}
