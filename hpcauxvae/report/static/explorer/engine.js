// What came with the page, and the decoder that draws. Nothing is fetched.

function bytes(text) {
  const raw = atob(text);
  const found = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) found[i] = raw.charCodeAt(i);
  return found;
}

const floats = (text) => new Float32Array(bytes(text).buffer);

const unzipped = (text) =>
  new Response(new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();

// A function from a code (Z,) to the image (C, H, W), flat, linear data units.
async function decoderOf(part) {
  const library = new Blob([await unzipped(part("library"))], { type: "text/javascript" });
  const ort = await import(URL.createObjectURL(library));
  Object.assign(ort.env.wasm, { numThreads: 1, wasmBinary: await unzipped(part("wasm")) });
  const session = await ort.InferenceSession.create(new Uint8Array(await unzipped(part("decoder"))), {
    executionProviders: ["wasm"],
    logSeverityLevel: 3,
  });
  return async (code) => {
    const z = new ort.Tensor("float32", Float32Array.from(code), [1, code.length]);
    const { images } = await session.run({ z });
    const drawn = Float32Array.from(images.data);
    images.dispose();
    return drawn;
  };
}
