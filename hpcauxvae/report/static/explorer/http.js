// The engine of a page that `hpcauxvae report --serve` gives: its decoder runs in Python, where the page came from.

// decode: as in wasm.js.
const engineOf = async () => ({
  async decode(code) {
    const answer = await fetch("decode", { method: "POST", body: Float32Array.from(code) }).catch(() => {
      throw new Error("hpcauxvae report --serve does not answer; has it ended?");
    });
    if (!answer.ok) throw new Error(await answer.text());
    return new Float32Array(await answer.arrayBuffer());
  },
});
