package dataset

import (
	"context"
	"errors"
	"fmt"
)

// DecodeAll decodes pictures that came in a message and returns them as [N, 3, Size, Size] in [0, 1]. Every picture
// that cannot be read is reported at once, by its index.
func DecodeAll(ctx context.Context, images [][]byte, opt Options) ([]float32, error) {
	opt, err := opt.prepare()
	if err != nil {
		return nil, err
	}
	each := 3 * opt.Size * opt.Size
	out := make([]float32, len(images)*each)
	var errs []error
	for i, data := range images {
		pixels, err := Decode(ctx, fmt.Sprintf("picture %d", i), data, opt)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			errs = append(errs, err)
			continue
		}
		planar(out[i*each:(i+1)*each], pixels)
	}
	return out, errors.Join(errs...)
}
