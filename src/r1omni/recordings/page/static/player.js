"use strict";
/* The recording itself, where the browser can play it. */

/* ontime(time) is told where the player is; returns { seek, toggle, time, destroy } */
function makePlayer(content, base, ontime) {
  const place = byId("player");
  let wanted = 0, frame = 0;
  const media = content.media === null ? null : make(content.video ? "video" : "audio", {
    controls: true, preload: "metadata", playsinline: true, "aria-label": content.name,
    src: content.media.startsWith("data:") ? content.media : base + content.media,
  });
  const trouble = make("p", { class: "gap", hidden: true },
    "The browser cannot play this file, or it is not where it was.");
  // In its place: the last picture before the time.
  const still = media || !content.pictures.length ? null
    : make("img", { src: content.pictures[0][1], alt: "The last picture before this time" });
  fill(place, media || still, trouble, content.notes.map((note) => make("p", { class: "gap" }, note)));
  if (media) {
    const follow = () => {
      ontime(media.currentTime);
      frame = media.paused || media.ended ? 0 : requestAnimationFrame(follow);
    };
    media.addEventListener("play", () => { if (!frame) follow(); });
    media.addEventListener("seeked", () => { if (media.paused) ontime(media.currentTime); });
    media.addEventListener("loadedmetadata", () => { if (wanted) media.currentTime = wanted; });
    media.addEventListener("error", () => { trouble.hidden = false; });
  }
  return {
    seek(time) {
      wanted = time;
      if (media && media.readyState > 0) media.currentTime = time;
      if (still) [, still.src] = content.pictures.findLast(([at]) => at <= time + 0.05) || content.pictures[0];
      ontime(time);
    },
    toggle() {
      if (!media || media.error) return;
      if (media.paused) media.play().catch(() => { trouble.hidden = false; });
      else media.pause();
    },
    destroy() {
      cancelAnimationFrame(frame);
      if (media) media.pause();
    },
  };
}
