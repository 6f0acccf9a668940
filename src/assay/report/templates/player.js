"use strict";
// Figures that move: one frame is shown at a time, chosen with the slider or shown one after the other.
for (const figure of document.querySelectorAll("figure.moving")) {
  const frames = figure.querySelectorAll(":scope > .still");
  const button = figure.querySelector(".player button");
  const slider = figure.querySelector(".player input");
  let timer = 0;
  let current = frames[0];

  const show = (index) => {
    const open = current.querySelector("details").open;
    current.classList.remove("current");
    current = frames[index];
    current.classList.add("current");
    current.querySelector("details").open = open;
    slider.value = index + 1;
    slider.setAttribute("aria-valuetext", current.querySelector(".moment").textContent);
  };
  const pause = () => {
    clearInterval(timer);
    timer = 0;
    button.textContent = "Play";
  };
  const last = () => Number(slider.value) === frames.length;
  const step = () => {
    if (!last()) show(Number(slider.value));
    if (last()) pause();
  };

  if (frames.length > 1) {
    figure.classList.add("live");
    show(0);
    button.addEventListener("click", () => {
      if (timer) return pause();
      if (last()) show(0);
      button.textContent = "Pause";
      timer = setInterval(step, 700);
    });
    slider.addEventListener("input", () => {
      pause();
      show(Number(slider.value) - 1);
    });
  }
}
