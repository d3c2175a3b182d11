"""python -m shop"""

from shop import orders, prices


def main():
    for work in (lambda: orders.order("tea"), lambda: prices.prices(["tea"])):
        for _ in range(2):
            try:
                print(work())
            except Exception as error:
                print(type(error).__name__, *getattr(error, "__notes__", []))


if __name__ == "__main__":
    main()
