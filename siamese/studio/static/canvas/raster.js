// Shapes become pixels: a pixel belongs to a shape if its centre lies inside. Coordinates are in pixels of the mask, whose first pixel
// reaches from 0 to 1. Each function returns the rectangle that it may have changed.

/** Set the pixels within `radius` of the segment from a to b to `value`. */
export function paintSegment(mask, a, b, radius, value) {
  const { width, height, pixels } = mask;
  const rect = clipped(mask, Math.min(a.x, b.x) - radius, Math.min(a.y, b.y) - radius, Math.max(a.x, b.x) + radius, Math.max(a.y, b.y) + radius);
  const [dx, dy] = [b.x - a.x, b.y - a.y];
  const length = dx * dx + dy * dy;
  const limit = radius * radius;
  for (let y = rect.top; y < Math.min(rect.bottom, height); y++) {
    const py = y + 0.5 - a.y;
    for (let x = rect.left; x < Math.min(rect.right, width); x++) {
      const px = x + 0.5 - a.x;
      const along = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
      const [ex, ey] = [px - along * dx, py - along * dy];
      if (ex * ex + ey * ey <= limit) pixels[y * width + x] = value;
    }
  }
  return rect;
}

/** Set the pixels inside the closed polygon to `value`; parts that it goes round several times count as inside (nonzero winding). */
export function fillPolygon(mask, points, value) {
  const { width, pixels } = mask;
  const xs = points.map((p) => p.x);
  const ys = points.map((p) => p.y);
  const rect = clipped(mask, Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys));
  for (let y = rect.top; y < rect.bottom; y++) {
    const crossings = crossingsAt(points, y + 0.5);
    let winding = 0;
    for (let i = 0; i + 1 < crossings.length; i++) {
      winding += crossings[i].direction;
      if (!winding) continue;
      const from = Math.max(0, Math.ceil(crossings[i].x - 0.5));
      const to = Math.min(width, Math.ceil(crossings[i + 1].x - 0.5));
      if (to > from) pixels.fill(value, y * width + from, y * width + to);
    }
  }
  return rect;
}

/** Set the pixels inside the ellipse about `centre` to `value`. */
export function fillEllipse(mask, centre, radiusX, radiusY, value) {
  const { width, pixels } = mask;
  const rect = clipped(mask, centre.x - radiusX, centre.y - radiusY, centre.x + radiusX, centre.y + radiusY);
  for (let y = rect.top; y < rect.bottom; y++) {
    const v = (y + 0.5 - centre.y) / radiusY;
    for (let x = rect.left; x < rect.right; x++) {
      const u = (x + 0.5 - centre.x) / radiusX;
      if (u * u + v * v <= 1) pixels[y * width + x] = value;
    }
  }
  return rect;
}

/** Where the polygon's sides cross the line at `y`, from left to right, with the side's direction. */
function crossingsAt(points, y) {
  const found = [];
  for (let i = 0; i < points.length; i++) {
    const a = points[i];
    const b = points[(i + 1) % points.length];
    if (a.y <= y === b.y <= y) continue;
    found.push({ x: a.x + ((y - a.y) / (b.y - a.y)) * (b.x - a.x), direction: a.y < b.y ? 1 : -1 });
  }
  return found.sort((first, second) => first.x - second.x);
}

/** The pixels that the box touches, inside the mask. */
function clipped(mask, left, top, right, bottom) {
  return {
    left: Math.min(mask.width, Math.max(0, Math.floor(left))),
    top: Math.min(mask.height, Math.max(0, Math.floor(top))),
    right: Math.max(0, Math.min(mask.width, Math.ceil(right) + 1)),
    bottom: Math.max(0, Math.min(mask.height, Math.ceil(bottom) + 1)),
  };
}
