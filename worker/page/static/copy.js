// Buttons that copy a text. Without this file the text can be selected and copied by hand.
// Without the right to use the clipboard, as over plain HTTP, the text is selected and copied.
async function copy(button) {
  const field = document.getElementById(button.dataset.copy);
  let done = true;
  try {
    await navigator.clipboard.writeText(field.value);
  } catch {
    field.select();
    done = document.execCommand("copy");
    if (done) button.focus();
  }
  button.textContent = done ? "Copied" : "Press Ctrl and C";
  setTimeout(() => { button.textContent = "Copy the text"; }, 3000);
  const announcer = document.getElementById("announcer");
  announcer.textContent = done ? "Copied the text." : "The text is selected, but not copied.";
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-copy]");
  if (button) copy(button);
});
