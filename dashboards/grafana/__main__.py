"""`python -m dashboards.grafana` writes the dashboards' JSON; a test holds it to what is said here."""

from dashboards.grafana.pages import FOLDER, written

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in written().items():
        (FOLDER / name).write_text(text)
        print(FOLDER / name)
