// A mask as a PNG of one grey channel, 0 and 255. A canvas element would write four channels.

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  let value = n;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

/** The PNG as a Blob. */
export async function maskPng(mask) {
  const { width, height, pixels } = mask;
  const rows = new Uint8Array(height * (width + 1)); // each row begins with its filter, 0: none
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) rows[y * (width + 1) + 1 + x] = pixels[y * width + x] * 255;
  }
  const header = new Uint8Array(13);
  const fields = new DataView(header.buffer);
  fields.setUint32(0, width);
  fields.setUint32(4, height);
  header[8] = 8; // bits; the colour type 0 is grey
  const deflated = new Response(new Blob([rows]).stream().pipeThrough(new CompressionStream('deflate')));
  const data = new Uint8Array(await deflated.arrayBuffer());
  const signature = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);
  return new Blob([signature, chunk('IHDR', header), chunk('IDAT', data), chunk('IEND', new Uint8Array())], { type: 'image/png' });
}

function chunk(name, data) {
  const out = new Uint8Array(data.length + 12);
  const fields = new DataView(out.buffer);
  fields.setUint32(0, data.length);
  for (let i = 0; i < 4; i++) out[4 + i] = name.charCodeAt(i);
  out.set(data, 8);
  let crc = 0xffffffff;
  for (let i = 4; i < data.length + 8; i++) crc = CRC[(crc ^ out[i]) & 255] ^ (crc >>> 8);
  fields.setUint32(data.length + 8, ~crc >>> 0);
  return out;
}
