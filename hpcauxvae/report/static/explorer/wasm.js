// The engine of a page that stands alone: its decoder runs in the browser. Nothing is fetched.

const unzipped = (text) =>
  new Response(new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();

// decode: from a code (Z,) to the image (C, H, W), flat, linear data units.
async function engineOf(part) {
  const library = new Blob([await unzipped(part("library"))], { type: "text/javascript" });
  const ort = await import(URL.createObjectURL(library));
  Object.assign(ort.env.wasm, { numThreads: 1, wasmBinary: await unzipped(part("wasm")) });
  const session = await ort.InferenceSession.create(new Uint8Array(await unzipped(part("decoder"))), {
    executionProviders: ["wasm"],
    logSeverityLevel: 3,
  });
  return {
    async decode(code) {
      const z = new ort.Tensor("float32", Float32Array.from(code), [1, code.length]);
      const { images } = await session.run({ z });
      const drawn = Float32Array.from(images.data);
      images.dispose();
      return drawn;
    },
  };
}
