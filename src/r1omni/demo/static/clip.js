"use strict";
/* The clip that is asked about: a file, an example, or one that is recorded here. */

/*
 * api: of makeApi; limits: bytes, mb, seconds; failed(line): told what went wrong
 * changed(clip): told of a clip { file, url, kind: "video" or "audio" }
 */
function makeClip(api, limits, changed, failed) {
  const input = byId("drop").querySelector("input");
  let clip = null, recorder = null;

  function show(element, words) {
    byId("given").hidden = false;
    fill(byId("preview"), element);
    byId("chosen").textContent = words;
  }

  function choose(file) {
    failed("");
    if (clip) URL.revokeObjectURL(clip.url);
    clip = null;
    if (file.size > limits.bytes) {
      show(null, "No clip yet.");
      changed(null);
      failed(`${file.name}: is larger than the limit of ${limits.mb} MB; shorten it, or encode it smaller`);
      return;
    }
    const kind = file.type.startsWith("audio") ? "audio" : "video";
    clip = { file, kind, url: URL.createObjectURL(file) };
    show(make(kind, { src: clip.url, controls: true, playsinline: true, preload: "metadata",
      "aria-label": "The clip" }), `${file.name} · ${(file.size / 1e6).toFixed(2)} MB`);
    changed(clip);
  }

  /* A clip that is not from the field of files, which names another one. */
  function other(file) {
    input.value = "";
    choose(file);
  }

  input.addEventListener("change", () => { if (input.files.length) choose(input.files[0]); });

  const drop = byId("drop");
  for (const name of ["dragenter", "dragover"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file && !recorder) other(file);
  });

  for (const button of document.querySelectorAll(".example")) {
    button.addEventListener("click", async () => {
      const { name } = button.dataset;
      try {
        const blob = await (await api.ask(`examples/${encodeURIComponent(name)}`)).blob();
        other(new File([blob], name, { type: blob.type }));
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        failed(error.message, error.status);
      }
    });
  }

  /* Record until `stop` is pressed, or as long as the server takes. */
  async function record(video) {
    failed("");
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: true, video });
    } catch (error) {
      failed(`The browser does not give ${video ? "the camera" : "the microphone"} (${error.name}); allow it, `
        + "or choose a file");
      return;
    }
    const kind = video ? "video/webm" : "audio/webm";
    recorder = new MediaRecorder(stream, { mimeType: MediaRecorder.isTypeSupported(kind) ? kind : "" });
    const parts = [];
    recorder.ondataavailable = (event) => parts.push(event.data);
    recorder.onstop = () => {
      clearTimeout(limit);
      stream.getTracks().forEach((track) => track.stop());
      const type = recorder.mimeType.split(";")[0];
      recorder = null;
      recording(false);
      other(new File(parts, `recorded.${type.split("/")[1]}`, { type }));
    };
    // A second less, since the last piece comes late.
    const limit = setTimeout(() => recorder?.stop(), 1000 * Math.max(limits.seconds - 1, 1));
    recorder.start();
    recording(true);
    if (!video) {
      show(null, "Recording sound ...");
      return;
    }
    const seen = make("video", { autoplay: true, playsinline: true, "aria-label": "The camera" });
    seen.muted = true;
    seen.srcObject = stream;
    show(seen, "Recording ...");
  }

  function recording(isOn) {
    byId("stop").hidden = !isOn;
    byId("camera").hidden = byId("microphone").hidden = isOn;
    for (const button of [input, ...document.querySelectorAll(".example")]) button.disabled = isOn;
    if (isOn) changed(null);
  }

  byId("camera").addEventListener("click", () => record(true));
  byId("microphone").addEventListener("click", () => record(false));
  byId("stop").addEventListener("click", () => recorder?.stop());
  // Not there where the page is asked for without TLS from another machine.
  if (!navigator.mediaDevices) byId("camera").hidden = byId("microphone").hidden = true;
}
