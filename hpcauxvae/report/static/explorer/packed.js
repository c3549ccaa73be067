// What came with the page, as base64.

function bytes(text) {
  const raw = atob(text);
  const found = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) found[i] = raw.charCodeAt(i);
  return found;
}

const floats = (text) => new Float32Array(bytes(text).buffer);
